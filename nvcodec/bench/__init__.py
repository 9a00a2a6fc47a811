"""Rate and quality against other codecs, measured under the same rules for all."""
