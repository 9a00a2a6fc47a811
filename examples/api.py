"""Encode a video with the Python API, then read frames back: python examples/api.py [VIDEO]."""

import sys
import tempfile
from pathlib import Path

import nvcodec


def main() -> None:
    source = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "bunny.mp4"
    options = nvcodec.EncodeOptions(target=nvcodec.Target(bpp=0.1), preset="fast", passes=5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.nrv"
        _, result = nvcodec.encode(source, path, options, frames=8)
        print(f"{result.n_bytes} bytes, {result.bpp:.3f} bpp, {result.psnr_db:.2f} dB")
        with nvcodec.open(path) as video:
            print(f"{len(video)} frames of {video.info.width}x{video.info.height}")
            print("frame 5:", video[5].shape, video[5].dtype)
            print("frames 2 to 4:", video[2:5].shape)


if __name__ == "__main__":
    main()
