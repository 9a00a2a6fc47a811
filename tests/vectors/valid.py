"""Recipes of the files that every decoder must read: trained ones, and options on random ones."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from conftest import make_video, moving_frames
from networks import (
    changed,
    drifting,
    fading,
    file_of,
    header_of,
    random_file,
    random_network,
    rounded,
    segment_of,
    smoothed,
    spots,
    with_rows,
    with_steps,
    with_symbols,
    zeroed,
)
from reference_decoder import decode

import nvcodec
from nvcodec.bitstream.container import SIGNATURE, pack_chunk, read_chunks
from nvcodec.bitstream.header import Stream, pack_stream, unpack_stream
from nvcodec.media import Chapter, Display, Extras, Hdr, Packet, Tag, Timing, Track, TrackHeader

Recipe = tuple[str, Callable[[], bytes]]

HNERV = {"embed_dim": 3, "fc_dim": 8, "strides": (2, 2), "lower_width": 4}
NERV = {"fc_dim": 6, "stem_dim": 8, "pe_levels": 6, "strides": (2, 2), "lower_width": 4}
ENERV = NERV | {"block_dim": 8, "mlp_dim": 8, "heads_2": 2, "head_dim": 4, "style_dim": 6}
NERV3D = {"clip_frames": 4, "embed_dim": 4, "fc_dim": 6, "strides": (2, 2), "lower_width": 3}
CANVAS = {
    "widths": (8, 5),
    "depths": (1, 1),
    "strides": (2, 2),
    "canvas_channels": (2, 1),
    "grid_channels": (2, 1),
    "motion": 1,
    "detail_channels": 0,
}
HINERV = {
    "channels": 8,
    "depths": (2, 1),
    "expansions": (2, 1),
    "strides": (2, 2),
    "base_times": 2,
    "base_channels": 1,
    "local_channels": 2,
}
BASES = {"hnerv": HNERV, "nerv": NERV, "enerv": ENERV, "3dnerv": NERV3D, "canvas": CANVAS}
JOINED = tuple(BASES)
"""The architectures of segments.nrv."""
BASES["hinerv"] = HINERV


def encoded(
    arch: str, size: int, *, frames: Any = None, video: dict[str, Any] | None = None, **options: Any
) -> bytes:
    """Return what the encoder makes of a small clip of 48x32."""
    frames = moving_frames(5, 48, 32) if frames is None else frames
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "clip.mkv"
        make_video(
            source, frames=frames, **{"codec": "ffv1", "pixel_format": "bgr0"} | (video or {})
        )
        target = nvcodec.Target() if "n_params" in options else nvcodec.Target(size=size)
        chosen = nvcodec.EncodeOptions(arch=arch, target=target, **{"passes": 40} | options)
        return nvcodec.encode(source, None, chosen, device="cpu")[0]


def steady(build: Callable[[int], bytes]) -> bytes:
    """Return the first file, over seeds, that has no sample near a tie of rounding.

    Frames of these files are so small that a few samples would break clause C2.
    """
    for seed in count():
        data = build(seed)
        video = decode(data)
        frames = range(video.header["n_frames"])
        codes, mended = (np.stack([f(i) for i in frames]) for f in (video.codes, video.mended))
        drawn, shown = (np.abs(y % 1 - 0.5)[(y > 0) & (y < 255)] for y in (codes, mended))
        # Means of samples that are copied are ties for every decoder.
        nearest = min(drawn.min(initial=1), shown[shown > 0].min(initial=1))
        if nearest > 1 / (2 * codes.size):
            return data
    raise AssertionError("count never ends")


def option(arch: str, what: str, *, size: Any = None, **config: Any) -> Recipe:
    """Return the recipe of a random network of one architecture with some options."""
    given = dict(size or {})
    return what, lambda: steady(
        lambda seed: random_file(arch, BASES[arch] | config, seed=seed, **given)
    )


def coded(
    what: str,
    changes: dict[str, Any],
    *,
    arch: str = "hnerv",
    size: dict[str, int] | None = None,
    **config: Any,
) -> Recipe:
    """Return the recipe of a random network some of whose tensors are replaced."""

    def build(seed: int) -> bytes:
        model = random_network(arch, BASES[arch] | config, seed=seed, **(size or {}))
        return file_of(model, changed(rounded(model), changes))

    return what, lambda: steady(build)


def corrected(
    what: str,
    *,
    side: int,
    blocks: Sequence[int],
    step: int,
    moved: dict[int, tuple[int, int]] | None = None,
    n_frames: int = 3,
    **parts: Any,
) -> Recipe:
    """Return the recipe of a random network and corrections of these blocks of its frames."""

    def build(seed: int) -> bytes:
        model = random_network("hnerv", HNERV, n_frames=n_frames, width=27, height=19, seed=seed)
        words = spots(model, side=side, step=step, blocks=blocks, moved=moved, seed=seed)
        return file_of(model, corrections=words, **parts)

    return what, lambda: steady(build)


def plain(*, size: dict[str, int] | None = None, **parts: Any) -> bytes:
    """Return a small file with other fields of its header or other chunks."""
    config, given = HNERV | {"fc_dim": 4}, {"n_frames": 4} | (size or {})
    return steady(
        lambda seed: file_of(random_network("hnerv", config, **given, seed=seed), **parts)
    )


def joined(seed: int) -> bytes:
    """Return a file with segments of five architectures, of different lengths."""
    segments, first = [], 0
    for n_frames, arch in enumerate(JOINED, 1):
        model = random_network(arch, BASES[arch], n_frames=n_frames, seed=seed)
        segments.append(segment_of(model, rounded(model), first))
        first += n_frames
    return pack_stream(Stream(header_of(segments, width=24, height=16), tuple(segments)))


def with_chunks(data: bytes, *chunks: tuple[str, bytes]) -> bytes:
    """Return a file with more chunks after its VHDR."""
    first, *others = [(chunk.type, chunk.payload) for chunk in read_chunks(data)]
    listed = [first, *chunks, *others, ("END ", b"")]
    return SIGNATURE + b"".join(pack_chunk(*chunk) for chunk in listed)


def with_extras(data: bytes, **parts: Any) -> bytes:
    """Return a file with other parts of its Stream."""
    return pack_stream(dataclasses.replace(unpack_stream(data), **parts))


SOUND = Track(
    TrackHeader(
        kind=1, codec="pcm_s16le", time_base_num=1, time_base_den=8000, disposition=1,
        language="eng", title="Silence", sample_rate=8000, channels=1, channel_mask=4,
        initial_padding=3,
    ),
    (
        Packet(time=-3, duration=400, data=bytes(800), skip_start=3),
        Packet(time=397, duration=400, data=bytes(800)),
        Packet(time=1000, duration=200, data=bytes(400), key=False, skip_end=7),
    ),
)  # fmt: skip
SUBTITLES = Track(
    TrackHeader(
        kind=2, codec="webvtt", time_base_num=1, time_base_den=1000, disposition=64,
        language="de", extradata=b"header",
    ),
    (
        Packet(time=0, duration=40, data="Grüße".encode(), cue_id="1", cue_settings="line:0"),
        Packet(time=80, duration=40, data=b"<i>two</i>"),
    ),
)  # fmt: skip
CHAPTERS = (
    Chapter(time_base_num=1, time_base_den=1000, start=0, end=80, title="Eins"),
    Chapter(time_base_num=1, time_base_den=1000, start=80, end=160),
)
TAGS = (Tag(key="title", value="A small clip"), Tag(key="comment", value=""))
TIMING = Timing(time_base=Fraction(1, 1000), pts=[-40, 0, 33, 100, 140], duration=25)
TURNED = Display(sar_num=4, sar_den=3, field_order=1, a=0, b=1 << 16, c=-(1 << 16), d=0)
MASTERING = Hdr(
    red_x=34000, red_y=16000, green_x=13250, green_y=34500, blue_x=7500, blue_y=3000,
    white_x=15635, white_y=16450, max_luminance=10_000_000, min_luminance=50, max_cll=1000,
    max_fall=400,
)  # fmt: skip
ODD = {"width": 23, "height": 37}

COMMON: dict[str, Recipe] = {
    "hnerv": ("HNeRV as the encoder writes it by default", lambda: encoded("hnerv", 2500)),
    "nerv": ("NeRV as the encoder writes it by default", lambda: encoded("nerv", 4000)),
    "enerv": ("E-NeRV as the encoder writes it by default", lambda: encoded("enerv", 5000)),
    "3dnerv": (
        "3DNeRV, clips of 4 frames, the last one not full",
        lambda: encoded(
            "3dnerv", 4000, frames=moving_frames(7, 48, 32), passes=100,
            model={"clip_frames": 4, "k_time": 5},
        ),
    ),
    "canvas": ("Canvas as the encoder wrote it at first", lambda: encoded("canvas", 2500)),
    "canvas-default": (
        "Canvas as the encoder writes it by default", lambda: encoded("canvas", 4000)
    ),
    "canvas-pictures": (
        "Canvas whose canvases are coded as pictures",
        lambda: encoded("canvas", 9000, frames=moving_frames(6, 96, 64), passes=60),
    ),
    "canvas-finer": (
        "Canvas as the encoder writes it by default: the slower a time grid, the finer",
        lambda: encoded("canvas", 9000),
    ),
    "canvas-frequencies": (
        "Canvas whose largest pictures are coded as frequencies of blocks",
        lambda: encoded(
            "canvas", 4500, frames=moving_frames(6, 96, 64), passes=60,
            model={"detail_channels": 1, "dct_shift": 3},
        ),
    ),
    "canvas-layers": (
        "Canvas with two layers of canvases",
        lambda: encoded("canvas", 6500, frames=moving_frames(6, 96, 64), passes=60,
                        model={"layers": 2}),
    ),
    "canvas-corrected": (
        "Canvas and corrections of what it draws wrong",
        lambda: encoded("canvas", 3500, frames=moving_frames(6, 47, 33), corrections=0.3),
    ),
    "hinerv": (
        "HiNeRV with two stages, a base grid over three of nine frames",
        lambda: encoded(
            "hinerv", 5000, frames=moving_frames(9, 72, 48), passes=60, model={"strides": "3,2"}
        ),
    ),
    "segments": (
        "Five segments of 1 to 5 frames, one of each architecture", lambda: steady(joined)
    ),
    "bt709": (
        "HNeRV of a 4:2:0 source tagged BT.709, limited range",
        lambda: encoded(
            "hnerv", 1500,
            video={"codec": "libx264", "pixel_format": "yuv420p", "tags": (1, 1, 1, 1)},
        ),
    ),
    "yuv": (
        "Canvas that draws the planes of a 4:2:0 source tagged BT.709, limited range",
        lambda: encoded(
            "canvas", 2500, color="yuv", frames=moving_frames(5, 47, 33),
            video={"codec": "ffv1", "pixel_format": "yuv420p", "tags": (1, 1, 1, 1)},
        ),
    ),
    "sound": (
        "A sound and a subtitle track, chapters and tags",
        lambda: with_extras(
            encoded("hnerv", 1500),
            extras=Extras(tracks=(SOUND, SUBTITLES), chapters=CHAPTERS, tags=TAGS),
        ),
    ),
    "hdr10": (
        "HNeRV of a 10-bit 4:2:0 source: BT.2020, PQ, light of display and video",
        lambda: with_extras(
            encoded(
                "hnerv", 2500,
                video={"codec": "ffv1", "pixel_format": "yuv420p10le", "tags": (9, 1, 9, 16)},
            ),
            hdr=MASTERING,
        ),
    ),
    "times": (
        "Frames at a varying rate from a negative time on",
        lambda: with_extras(encoded("hnerv", 1500), timing=TIMING),
    ),
    "smallest": (
        "One frame of 16x16, the example of bitstream_spec.md",
        lambda: steady(
            lambda seed: random_file(
                "hnerv", HNERV | {"embed_dim": 2, "fc_dim": 3, "strides": (4,), "lower_width": 2},
                n_frames=1, width=16, seed=seed,
            )
        ),
    ),
}  # fmt: skip

UNCOMMON: dict[str, Recipe] = {
    # tensors coded as pictures
    "pictures": coded(
        "Canvases and details coded as pictures, several in one tensor",
        {
            "canvases.0": smoothed(1, 9), "canvases.1": smoothed(2, 90), "detail": smoothed(1, 4),
            "grid": smoothed(1, 2), "slow_grids.0": smoothed(3, 40),
        },
        arch="canvas", detail_channels=2, canvas_channels=(3, 2), margin_percent=90,
    ),
    "pictures-far": coded(
        "Pictures of the whole range of symbols, which wrap around and are escaped",
        {"detail": smoothed(4001, 32767), "canvases.0": smoothed(901, 30000)},
        arch="canvas", detail_channels=1,
    ),
    "pictures-over-time": coded(
        "Pictures whose differences over time are coded as pictures",
        {"flow": drifting(3, 40), "grid": smoothed(1, 9), "canvases.0": smoothed(1, 9)},
        arch="canvas", widths=(6,), depths=(1,), strides=(2,), canvas_channels=(2,), motion=2,
        flow_shift=0,
    ),
    # tensors coded as frequencies of blocks
    "frequencies": coded(
        "Canvases, a detail and a slow grid as frequencies of blocks of 2x2",
        {
            "canvases.0": fading(9), "canvases.1": fading(90), "detail": fading(400),
            "slow_grids.1": fading(30),
        },
        arch="canvas", detail_channels=1, grid_channels=(2, 1, 2), slow_shift=1, dct_shift=1,
        size={"width": 64, "height": 56, "n_frames": 5},
    ),
    "frequencies-far": coded(
        "Frequencies of blocks of 4x4 over the whole range of symbols", {"detail": fading(32767)},
        arch="canvas", widths=(4,), depths=(0,), strides=(2,), canvas_channels=(0,),
        detail_channels=2, dct_shift=2, size={"width": 42, "height": 37},
    ),
    "pictures-yuv": (
        "Pictures in a network that draws Y'CbCr",
        lambda: steady(
            lambda seed: file_of(
                model := random_network("canvas", CANVAS, seed=seed),
                changed(rounded(model), {"canvases.1": smoothed(1, 9)}), yuv=True,
            )
        ),
    ),
    # HNeRV
    "hnerv-relu-bn": option("hnerv", "Activation relu, batch normalisation", activation=1, norm=1),
    "hnerv-leaky-in": option("hnerv", "Activation leaky, instance norm", activation=2, norm=2),
    "hnerv-leaky01-deconv": option(
        "hnerv", "Activation leaky01, deconv with an odd and an even kernel", activation=3,
        upsampling=1, strides=(3, 2), size=ODD,
    ),
    "hnerv-relu6-bilinear": option(
        "hnerv", "Activation relu6, bilinear with an even and an odd kernel", activation=4,
        upsampling=2, strides=(3, 2), size=ODD,
    ),
    "hnerv-swish": option("hnerv", "Activation swish, output sigmoid", activation=5, output=1),
    "hnerv-softplus": option(
        "hnerv", "Activation softplus, widths by the stride's square root, ties both ways",
        activation=6, fc_dim=15, reduction_percent=0, lower_width=1, strides=(4, 3, 4),
    ),
    "hnerv-hardswish": option(
        "hnerv", "Activation hardswish, output linear", activation=7, output=2
    ),
    "hnerv-sin-pe": option(
        "hnerv", "Activation sin on a positional encoding", activation=8, embed=1, fc_dim=4,
        pe_base_percent=110, pe_levels=12,
    ),
    "hnerv-time": option(
        "hnerv", "The time itself is the input", embed=1, fc_dim=4, strides=(4, 4), pe_levels=0
    ),
    "hnerv-highest-frequency": option(
        "hnerv", "A positional encoding that reaches the frequency 2^30", embed=1, fc_dim=4,
        strides=(4, 4), pe_base_percent=200, pe_levels=31, size={"n_frames": 7},
    ),
    "hnerv-blocks": option(
        "hnerv", "Three blocks a stage, batch normalisation, deconv", n_blocks=3, norm=1,
        upsampling=1, fc_dim=5, lower_width=3,
    ),
    "hnerv-blocks-bilinear": option(
        "hnerv", "Two blocks a stage, instance norm, bilinear, kernels 3 to 5", n_blocks=2,
        norm=2, upsampling=2, fc_dim=5, lower_width=3, k_min=3,
    ),
    "hnerv-fc-scale": option("hnerv", "Cells of an embedding become 3x3", fc_scale=3, fc_dim=5),
    "hnerv-kernels": option(
        "hnerv", "Kernels of 5, 7, 9 and a stride of 1", k_min=5, k_max=9, strides=(2, 1, 2),
        fc_dim=4, lower_width=2,
    ),
    "hnerv-ties": option(
        "hnerv", "Widths whose rounding meets ties", reduction_percent=200, fc_dim=13,
        lower_width=1, strides=(2, 2, 1),
    ),
    "hnerv-strides": option(
        "hnerv", "Strides of 1 to 8", strides=(8, 1, 3), fc_dim=3, lower_width=2,
        size={"width": 30, "height": 20},
    ),
    # Corrections
    "corrected-large": corrected(
        "Corrected blocks of 64 pixels, larger than the frame, of 10 bits", side=64, blocks=(0, 2),
        step=160, bit_depth=10,
    ),
    "corrected-small": corrected(
        "Corrected blocks of 8 pixels, across edges of odd frames, side by side and one after "
        "another in time", side=8, blocks=(0, 3, 5, 7, 8, 11, 12, 17, 18, 20, 23, 30, 34), step=168,
    ),
    "corrected-rows": corrected(
        "More than 64 corrected blocks", side=8, blocks=range(1, 68), step=150, n_frames=6
    ),
    "corrected-none": corrected("Corrections of no block", side=16, blocks=(), step=0),
    "corrected-moving": corrected(
        "Blocks that show the frame before, by whole and half pixels, with coefficients and "
        "without; a frame between in which none does", side=8,
        blocks=(2, 13, 18, 21, 26, 28, 40, 47, 49, 62, 63, 70), step=160, n_frames=6,
        moved={12: (0, 0), 13: (1, 0), 14: (0, -1), 17: (3, 5), 18: (-4, 6), 19: (2, 2),
               22: (-1, -1), 23: (7, -3), 25: (1, 1), 26: (-2, 0), 29: (5, -6), 30: (4, -5),
               36: (0, 3), 37: (0, 3), 38: (0, 4), 40: (1, 3), 41: (-3, 3), 42: (-3, -8),
               46: (2, 0), 47: (-2, 1), 61: (1, 2), 62: (0, 0), 66: (-1, 0), 69: (3, -9)},
    ),
    "corrected-moving-all": corrected(
        "All blocks of all frames but the first show the frame before: vectors alike and not",
        side=8, blocks=(), step=0, n_frames=9,
        moved={i: (i // 12 - 4 + (i % 7 == 0) * (i % 5 - 2), 3 - i % 4 + 6 * (i % 11 == 0))
               for i in range(12, 108)},
    ),
    "corrected-moving-far": corrected(
        "Vectors up to the largest, to beyond all edges", side=16, blocks=(5, 6, 10), step=160,
        n_frames=4,
        moved={4: (1023, 1023), 5: (-1023, -1023), 6: (-1023, 1023), 7: (1022, -1023),
               8: (-31, 5), 9: (6, 37), 10: (33, -40), 11: (-1, 3),
               12: (-19, 0), 13: (0, 21), 14: (20, 1), 15: (-39, -54)},
    ),
    "corrected-moving-large": corrected(
        "Blocks of 64 pixels, larger than the frame, that show the frame before, of 10 bits",
        side=64, blocks=(0, 2, 3), step=160, n_frames=5, bit_depth=10,
        moved={1: (1, 0), 2: (-3, 3), 4: (0, -1)},
    ),
    "corrected-moving-none": corrected(
        "Blocks may show the frame before, but none does", side=8, blocks=(1, 17, 18, 30),
        step=160, moved={},
    ),
    "corrected-moving-still": corrected(
        "Blocks may show the frame before, but there is a single frame", side=16, blocks=(1, 2),
        step=160, n_frames=1, moved={},
    ),
    # NeRV
    "nerv-deconv-bn": option("nerv", "deconv, batch normalisation", upsampling=1, norm=1),
    "nerv-bilinear-in": option("nerv", "bilinear, instance norm", upsampling=2, norm=2, fc_dim=3),
    "nerv-pshuffle-bn": option(
        "nerv", "pshuffle, batch normalisation, swish", norm=1, activation=5
    ),
    "nerv-blocks": option(
        "nerv", "One and two blocks, all of deconv, expansion 250 %", blocks=(1, 2), upsampling=1,
        expansion_percent=250, activation=2,
    ),
    "nerv-stride-1": option(
        "nerv", "A stage that does not enlarge keeps its width", strides=(2, 1, 2), blocks=(2,),
        expansion_percent=150, reduction_percent=150, lower_width=1, activation=8,
    ),
    "nerv-stem": option("nerv", "No hidden layer in the stem", stem_layers=0, pe_levels=3),
    "nerv-deep-stem": option("nerv", "Three hidden layers, output linear", stem_layers=3, output=2),
    "nerv-time": option("nerv", "The time itself is the input", pe_levels=0, output=1),
    "nerv-one-cell": option(
        "nerv", "Bilinear enlarging of a single cell", strides=(8, 4), upsampling=2, fc_dim=2,
        lower_width=2, pe_base_percent=300,
    ),
    "nerv-heads": (
        "Trained with heads at lower resolutions, of which nothing is stored",
        lambda: encoded("nerv", 4000, side_weight=0.5),
    ),
    # E-NeRV
    "enerv-narrow": option(
        "enerv", "First block with C_0 > C_1, batch normalisation", expansion_percent=50, norm=1,
        fc_dim=7,
    ),
    "enerv-wide": option("enerv", "First block with C_0 < C_1", expansion_percent=200, fc_dim=5),
    "enerv-no-map": option("enerv", "Tokens as wide as the first map: no to_map", fc_dim=8),
    "enerv-no-stage-norm": option(
        "enerv", "Scale and shift without normalisation, relu", stage_norm=1, activation=1
    ),
    "enerv-deconv": option(
        "enerv", "deconv after the first stage, instance norm, leaky01", upsampling=1, norm=2,
        activation=3,
    ),
    "enerv-bilinear": option(
        "enerv", "First block with C_0 = C_1, then bilinear, output linear", upsampling=2, output=2,
        fc_dim=3, expansion_percent=100,
    ),
    "enerv-numbers": option(
        "enerv", "Numbers without a positional encoding, output tanh", output=0, pe_levels=0
    ),
    "enerv-frame": option(
        "enerv", "A single frame, four heads", heads_1=4, heads_2=3, size={"n_frames": 1}
    ),
    # 3DNeRV
    "3dnerv-pairs": option(
        "3dnerv", "Clips of 2 frames, an odd number of frames", clip_frames=2,
        size={"n_frames": 5},
    ),
    "3dnerv-frame": option("3dnerv", "A single frame of a clip of 4", size={"n_frames": 1}),
    "3dnerv-flat": option("3dnerv", "Kernels of one time, output tanh", k_time=1, output=0),
    "3dnerv-long": option(
        "3dnerv", "Kernels longer than the clip", clip_frames=2, k_min=5, k_max=7, k_time=11,
        head_kernel=9, fc_dim=2, lower_width=1, reduction_percent=300,
    ),
    "3dnerv-head": option(
        "3dnerv", "A head of 1x1, output linear, strides 3, 1, 2", head_kernel=1, output=2,
        strides=(3, 1, 2), k_time=5, size=ODD,
    ),
    # Canvas
    "canvas-still": option("canvas", "Canvases that do not move", motion=0, margin_percent=0),
    "canvas-margin": option(
        "canvas", "A margin of 100 %, output tanh", margin_percent=100, output=0
    ),
    "canvas-none": option(
        "canvas", "No canvas at all, output linear", canvas_channels=(0, 0), output=2
    ),
    "canvas-last": option("canvas", "A canvas in the last stage only", canvas_channels=(0, 3)),
    "canvas-first": option("canvas", "A canvas in the first stage only", canvas_channels=(3, 0)),
    "canvas-grids": option(
        "canvas", "Four time grids over 9 frames", grid_channels=(2, 2, 1, 1),
        size={"n_frames": 9},
    ),
    "canvas-slow": option(
        "canvas", "Three time grids, the slower the finer, over 9 frames", grid_channels=(2, 1, 2),
        slow_shift=2, size={"n_frames": 9},
    ),
    "canvas-slow-odd": option(
        "canvas", "Four time grids of which the two slowest have the finest cells, odd frames",
        grid_channels=(1, 2, 1, 1), slow_shift=1, size=ODD | {"n_frames": 9},
    ),
    "canvas-dct": option(
        "canvas", "Blocks of frequencies that are coded in rows, others too few for blocks",
        detail_channels=1, dct_shift=1, size={"width": 40, "height": 32},
    ),
    "canvas-grid": option("canvas", "One time grid, no blocks", grid_channels=(3,), depths=(0, 0)),
    "canvas-blocks": option(
        "canvas", "Depthwise kernels of 1, expansion 8, two blocks", depths=(2, 0), kernel=1,
        expansion=8,
    ),
    "canvas-kernel": option("canvas", "Depthwise kernels of 7, expansion 1", kernel=7, expansion=1),
    "canvas-stages": option(
        "canvas", "Five stages with strides 1 to 3", widths=(6, 5, 4, 3, 2), depths=(1, 0, 1, 0, 1),
        strides=(2, 1, 3, 1, 2), canvas_channels=(1, 0, 2, 0, 1), size=ODD,
    ),
    "canvas-stage": option(
        "canvas", "A single stage", widths=(6,), depths=(1,), strides=(4,), canvas_channels=(2,)
    ),
    "canvas-flow": option("canvas", "Canvases under a flow", motion=2, size={"n_frames": 4}),
    "canvas-flow-odd": option(
        "canvas", "A flow in one stage of odd frames, no canvas in the other", motion=2,
        canvas_channels=(0, 2), size=ODD,
    ),
    "canvas-flow-fine": option(
        "canvas", "A flow of four values to a cell of the first stage's grid", motion=2,
        flow_shift=1, size=ODD | {"n_frames": 4},
    ),
    "canvas-layers-odd": option(
        "canvas", "Two layers of odd frames, a canvas in the second stage alone", motion=2,
        layers=2, canvas_channels=(0, 2), flow_shift=2, size=ODD | {"n_frames": 4},
    ),
    "canvas-layers-dct": option(
        "canvas", "Two layers, frequencies of blocks of 2x2, a detail", motion=2, layers=2,
        detail_channels=1, dct_shift=1, size={"width": 64, "height": 56, "n_frames": 5},
    ),
    "canvas-detail": option(
        "canvas", "A canvas of full resolution under a flow", motion=2, detail_channels=1
    ),
    "canvas-details": option(
        "canvas", "Three channels of full resolution under affine maps, odd frames",
        detail_channels=3, size=ODD,
    ),
    "canvas-detail-still": option(
        "canvas", "A canvas of full resolution that does not move, output tanh", motion=0,
        detail_channels=2, output=0,
    ),
    "canvas-far": coded(
        "Motion that looks beyond the canvas, mirrors and turns it",
        {"motion": lambda q: with_steps(192)(with_symbols([-256, 0, 99, 50, -190, -99, 400])(q))},
        arch="canvas",
    ),
    # HiNeRV
    "hinerv-frame": option(
        "hinerv", "A single frame, output tanh", base_times=1, output=0, size={"n_frames": 1}
    ),
    "hinerv-times": option(
        "hinerv", "Grids of odd numbers of times, output linear", base_times=7, base_channels=2,
        local_channels=3, output=2, size={"n_frames": 9},
    ),
    "hinerv-strides": option(
        "hinerv", "Four stages with strides 1 to 3, odd frames", channels=9,
        depths=(1, 2, 1, 1), expansions=(1, 3, 2, 1), strides=(3, 1, 2, 1), local_channels=5,
        size=ODD,
    ),
    "hinerv-narrow": option(
        "hinerv", "Channels that cannot be halved any more", channels=3, depths=(1, 1, 2),
        expansions=(2, 8, 1), strides=(2, 2, 2), local_channels=1,
    ),
    "hinerv-pictures": coded(
        "Base grids coded as pictures",
        {"base_grids.0": smoothed(2, 60), "base_grids.1": smoothed(1, 9)},
        arch="hinerv", depths=(1,), expansions=(2,), strides=(2,),
    ),
    "hinerv-differences": coded(
        "Local grids whose differences over time are coded as pictures",
        {"local_grids.0": drifting(1, 7)},
        arch="hinerv", depths=(1,), expansions=(2,), strides=(8,),
    ),
    # sizes
    "pixel": option(
        "hnerv", "One frame of one pixel", size={"width": 1, "height": 1, "n_frames": 1}
    ),
    "column": option("hnerv", "Frames one pixel wide", size={"width": 1, "height": 40}),
    "row": option("nerv", "Frames one pixel high", size={"width": 40, "height": 1}),
    "portrait": option("enerv", "Odd portrait frames", size=ODD),
    "odd": option("canvas", "Odd frames", size={"width": 37, "height": 23}),
    "flat": (
        "Frames of one colour",
        lambda: encoded("hnerv", 700, frames=[np.full((32, 48, 3), (200, 90, 30), np.uint8)] * 3),
    ),
    # coding of the tensors
    "ptq-1": (
        "Min-max quantised to 1 bit, per tensor",
        lambda: encoded(
            "hnerv", 0, coding="ptq", weight_bits=1, embed_bits=1, quant_axis="tensor",
            n_params=3000, passes=20,
        ),
    ),
    "ptq-8": (
        "Min-max quantised to 8 bits along the best axis",
        lambda: encoded("nerv", 0, coding="ptq", weight_bits=8, n_params=3000, passes=100),
    ),
    "ptq-16": (
        "Min-max quantised to 16 bits, many symbols escaped",
        lambda: encoded("hnerv", 0, coding="ptq", n_params=2000, passes=60),
    ),
    "pruned": (
        "Half of the weights pruned",
        lambda: encoded("nerv", 2500, prune=0.5, passes=100),
    ),
    "zeros": (
        "All tensors are zero: grey frames",
        lambda: file_of(
            model := random_network("hnerv", HNERV), [zeroed(q) for q in rounded(model)]
        ),
    ),
    "zero-rows": coded(
        "A tensor of zeros, and rows of zeros that inherit steps",
        {
            "stages.0.conv.bias": zeroed,
            "stages.0.conv.weight": lambda q: with_symbols([0] * 60)(with_rows(0)(q)),
        },
    ),
    "escapes": coded(
        "Symbols from -32768 to 32767 among small ones: escapes",
        {
            "stages.1.conv.weight": lambda q: with_steps(64)(
                with_symbols([0] * 9 + [9000, -32768, 32767, 1, -4100, 4095])(zeroed(q))
            )
        },
    ),
    "differences": coded(
        "Embeddings coded as differences along time, up to the largest",
        {
            "embeddings": lambda q: with_steps(96)(
                dataclasses.replace(
                    q,
                    symbols=np.stack(
                        [np.full(q.symbols.shape[1:], 32000 - 31 * t) for t in range(3)]
                    ).astype(np.int32),
                )
            )
        },
    ),
    "wide-scale": coded(
        "Symbols so large that the widest table is used",
        {
            "stages.0.conv.weight": lambda q: with_steps(72)(
                with_symbols(
                    np.random.default_rng(1).integers(-32768, 32768, 128).tolist()
                )(zeroed(q))
            )
        },
    ),
    "row-axes": coded(
        "Rows along no axis, the first and the second",
        {
            "stem.weight": with_rows(1),
            "stages.0.conv.weight": with_rows(None),
            "stages.1.conv.weight": with_rows(1),
            "stages.1.conv.bias": with_rows(0),
            "head.weight": with_rows(0),
        },
    ),
    "extreme-steps": coded(
        "The smallest and the largest quantiser step",
        {"stem.bias": with_steps(0), "head.bias": lambda q: with_steps(255)(zeroed(q))},
    ),
    "huge-weights": coded(
        "Weights so large that samples are clamped",
        {"head.bias": lambda q: with_steps(255)(with_symbols([32767, -32768, 0])(q))},
    ),
    # chunks and headers
    "unknown-ancillary": (
        "Unknown ancillary chunks, two of one type, one empty",
        lambda: with_chunks(plain(), ("abCD", b"whatever"), ("zzZZ", b""), ("abCD", b"again")),
    ),
    "minor-version": ("A newer minor version", lambda: plain(version_minor=255)),
    "metadata": (
        "Metadata with control characters and marks that turn the direction of writing",
        lambda: plain(metadata="\x1b]0;title\x07 \u202eabc\nd\u00e9f".encode()),
    ),
    "turned": ("Frames to be turned and stretched, in fields", lambda: plain(display=TURNED)),
    "grey-16": (
        "A grey source of 16 bits at 24000/1001 frames/s",
        lambda: plain(chroma=400, bit_depth=16, rate_num=24000, rate_den=1001, full_range=1),
    ),
    "rgb": (
        "An RGB source with a stated colour",
        lambda: plain(
            chroma=0, matrix=0, primaries=9, transfer=16, full_range=1, siting=6,
            color_specified=1, bit_depth=10,
        ),
    ),
    "yuv-center": (
        "Planes of 4:2:0, chroma at the centre, full range, odd sides",
        lambda: plain(yuv=True, full_range=1, siting=2, size=ODD),
    ),
    "yuv-top": (
        "Planes of 4:2:0, chroma at the top, a column alone",
        lambda: plain(yuv=True, siting=4, matrix=1, size={"width": 1, "height": 37}),
    ),
    "yuv-top-left": (
        "Planes of 4:2:0 of 10 bits, chroma on luma, BT.2020",
        lambda: plain(yuv=True, siting=3, matrix=9, bit_depth=10, size=ODD),
    ),
    "yuv-422": (
        "Planes of 4:2:2, odd sides", lambda: plain(yuv=True, chroma=422, siting=1, size=ODD)
    ),
    "yuv-444": ("Planes of 4:4:4, full range", lambda: plain(yuv=True, chroma=444, full_range=1)),
    "yuv-gray": ("A plane of luma alone", lambda: plain(yuv=True, chroma=400)),
    "yuv-clamped": (
        "Planes that are clamped at both ends, full range",
        lambda: steady(
            lambda seed: file_of(
                model := random_network("hnerv", HNERV | {"output": 2}, seed=seed),
                changed(rounded(model), {"head.bias": with_steps(200)}), yuv=True, full_range=1,
            )
        ),
    ),
    "empty-chunks": (
        "chAP and taGS without records, a track without packets",
        lambda: with_chunks(
            plain(extras=Extras(tracks=(Track(SOUND.header, ()),))), ("chAP", b""), ("taGS", b"")
        ),
    ),
    "light": (
        "MaxFALL alone, of a 12-bit 4:2:2 source",
        lambda: plain(chroma=422, bit_depth=12, hdr=Hdr(max_fall=65535)),
    ),
    "first-time": (
        "Times of one run, far in the past",
        lambda: plain(
            timing=Timing(
                time_base=Fraction(7, 90000), pts=range(-(2**40), -(2**40) + 4), duration=0
            )
        ),
    ),
}  # fmt: skip
