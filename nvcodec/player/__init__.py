"""Looking at a file: thumbnails, a window of another program, a page in the browser."""
