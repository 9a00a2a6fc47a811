"""Loading frames: python benchmarks/loading.py CLIP [--bpp R] [--batch N].

Seconds from opening a file to 8-bit RGB arrays of all frames, every second, every fourth, and as
many frames in random order (HNeRV, Chen et al., CVPR 2023, video decoding), from an .nrv file and
from H.264 in .mp4 through PyAV, which seeks to the keyframe before each frame that does not follow.
The .mp4 has x264's default of a keyframe every 250 frames, or one every 12, as data sets use it.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import machine
import numpy as np
import torch
from numpy.typing import NDArray

import nvcodec
from nvcodec.codec.source import Source, read_source

ROUNDS = 5
CRF = "30"


def write_mp4(path: Path, source: Source, gop: int) -> None:
    """Encode with x264's preset medium."""
    options = {"crf": CRF, "preset": "medium", "g": str(gop)}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=source.info.frame_rate, options=options)
        stream.height, stream.width = source.frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for rgb in source.frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, "rgb24")))
        container.mux(stream.encode(None))


def load_mp4(path: Path, indices: list[int], gop: int) -> NDArray[np.uint8]:
    """Return these frames; decode on where that is no farther than the next keyframe may be."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = torch.get_num_threads()
        stream.thread_type = "AUTO"
        assert stream.average_rate
        assert stream.time_base
        frame_time = 1 / (stream.average_rate * stream.time_base)
        decoded, at = container.decode(stream), -1
        for index in indices:
            if not 0 < index - at <= gop:
                container.seek(round(index * frame_time), stream=stream)
                decoded = container.decode(stream)
            while True:
                frame = next(decoded)
                assert frame.pts is not None
                at = round(frame.pts / frame_time)
                if at == index:
                    break
            frames.append(frame.to_ndarray(format="rgb24"))
    return np.stack(frames)


def load_nrv(path: Path, indices: list[int], batch: int) -> NDArray[np.uint8]:
    with nvcodec.open(path, batch=batch) as video:
        return video[indices]


def best_s(load: Callable[[], NDArray[np.uint8]], n_frames: int) -> float:
    """Return the seconds of the fastest of a few rounds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        assert len(load()) == n_frames
        seconds.append(time.perf_counter() - started)
    return round(min(seconds), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--bpp", type=float, default=0.05)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--name", default="loading", help="name of the result file")
    arguments = parser.parse_args()
    source = read_source(arguments.clip, start=0, count=arguments.frames)
    n_frames = len(source.frames)
    patterns = {
        "100 %": list(range(n_frames)),
        "50 %": list(range(0, n_frames, 2)),
        "25 %": list(range(0, n_frames, 4)),
        "25 %, random order": random.Random(0).sample(range(n_frames), n_frames // 4),
        "1 frame": [n_frames * 3 // 4],
    }
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        coded = Path(folder) / "clip.nrv"
        # Drawing costs the same however long the network was trained.
        options = nvcodec.EncodeOptions(target=nvcodec.Target(bpp=arguments.bpp), passes=2)
        _, encoded = nvcodec.encode(source, coded, options)
        for batch in arguments.batch:
            results[f"nrv, batch {batch}"] = {"n_bytes": encoded.n_bytes} | {
                name: best_s(partial(load_nrv, coded, i, batch), len(i))
                for name, i in patterns.items()
            }
        for gop in (250, 12):
            path = Path(folder) / f"gop{gop}.mp4"
            write_mp4(path, source, gop)
            results[f"mp4, keyframe every {gop}"] = {"n_bytes": path.stat().st_size} | {
                name: best_s(partial(load_mp4, path, i, gop), len(i))
                for name, i in patterns.items()
            }
    machine.save(
        arguments.name,
        {
            "clip": Path(arguments.clip).name,
            "frames": n_frames,
            "n_params": encoded.n_params,
            "x264_crf": int(CRF),
            "seconds": results,
        },
    )


if __name__ == "__main__":
    main()
