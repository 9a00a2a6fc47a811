"""Videos in and out, as RGB frames at their own depth, with their colour tags kept."""

from nvcodec.video.frames import ColorTags, VideoInfo
from nvcodec.video.reader import VideoReader, open_video
from nvcodec.video.writer import VideoWriter, open_writer

__all__ = ["ColorTags", "VideoInfo", "VideoReader", "VideoWriter", "open_video", "open_writer"]
