"""Valid files with random options: the product and the reference decoder read them alike."""

import sys
from pathlib import Path

import numpy as np
import pytest
import reference_decoder
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nrv_factory import flat

from nvcodec.codec.decoder import VideoFile

sys.path.append(str(Path(__file__).parent / "vectors"))

from networks import file_of, random_network

STRIDES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
ODD = st.integers(0, 3).map(lambda n: 2 * n + 1)


def choices(*names):
    counts = {"upsampling": 3, "norm": 3, "activation": 9, "output": 3}
    return {name: st.integers(0, counts[name] - 1) for name in names}


ENCODING = {"pe_base_percent": st.integers(100, 300), "pe_levels": st.integers(0, 8)}
WIDTHS = {
    "fc_dim": st.integers(1, 7),
    "reduction_percent": st.integers(100, 300),
    "lower_width": st.integers(1, 5),
    "strides": STRIDES,
}
STAGES = WIDTHS | {"expansion_percent": st.integers(1, 300)}
CHOICES = choices("upsampling", "norm", "activation", "output")


def numbers(n, low, high):
    return st.lists(st.integers(low, high), min_size=n, max_size=n).map(tuple)


def canvas_lists(n):
    return {
        "widths": numbers(n, 1, 6),
        "depths": numbers(n, 0, 2),
        "strides": numbers(n, 1, 3),
        "canvas_channels": numbers(n, 0, 2),
    }


CONFIGS = {
    "hnerv": st.fixed_dictionaries(
        WIDTHS
        | CHOICES
        | ENCODING
        | {
            "embed_dim": st.integers(1, 4),
            "reduction_percent": st.just(0) | st.integers(100, 300),
            "k_min": ODD,
            "k_max": ODD,
            "n_blocks": st.integers(1, 2),
            "embed": st.integers(0, 1),
            "fc_scale": st.integers(1, 3),
        }
    ),
    "nerv": st.fixed_dictionaries(
        STAGES
        | CHOICES
        | ENCODING
        | {
            "stem_dim": st.integers(1, 8),
            "stem_layers": st.integers(0, 2),
            "blocks": st.integers(1, 3).map(lambda n: (n,)),
        }
    ),
    "enerv": st.fixed_dictionaries(
        STAGES
        | CHOICES
        | ENCODING
        | {
            "stage_norm": st.integers(0, 1),
            **{
                name: st.integers(1, 6)
                for name in ("stem_dim", "block_dim", "mlp_dim", "head_dim", "style_dim")
            },
            "heads_1": st.integers(1, 3),
            "heads_2": st.integers(1, 3),
        }
    ),
    "3dnerv": st.fixed_dictionaries(
        WIDTHS
        | choices("output")
        | {
            "clip_frames": st.sampled_from([2, 4]),
            "embed_dim": st.sampled_from([2, 4, 6]),
            **dict.fromkeys(("k_min", "k_max", "k_time", "head_kernel"), ODD),
        }
    ),
    "canvas": st.integers(1, 4).flatmap(
        lambda n: st.fixed_dictionaries(
            canvas_lists(n)
            | choices("output")
            | {
                "grid_channels": st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple),
                "margin_percent": st.integers(0, 255),
                "expansion": st.integers(1, 3),
                "kernel": ODD,
                "slow_shift": st.integers(0, 4),
                "dct_shift": st.integers(0, 3),
            }
            | {"motion": st.integers(0, 2), "layers": st.integers(1, 2)}
        ).map(lambda config: config | {"motion": 2} if config["layers"] == 2 else config)
    ),
    "hinerv": st.integers(1, 4).flatmap(
        lambda n: st.fixed_dictionaries(
            choices("output")
            | {
                "channels": st.integers(1, 12),
                "depths": numbers(n, 1, 2),
                "expansions": numbers(n, 1, 3),
                "strides": numbers(n, 1, 3),
                "base_times": st.integers(1, 6),
                "base_channels": st.integers(1, 3),
                "local_channels": st.integers(1, 5),
            }
        )
    ),
}
PLANES = st.fixed_dictionaries(
    {
        "yuv": st.just(True),
        "chroma": st.sampled_from([420, 422, 444, 400]),
        "siting": st.integers(0, 4),
        "full_range": st.integers(0, 1),
    }
)
SIZES = st.fixed_dictionaries(
    {"n_frames": st.integers(1, 6), "width": st.integers(1, 30), "height": st.integers(1, 30)}
)


@pytest.mark.parametrize("arch", CONFIGS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data(), size=SIZES, seed=st.integers(0, 1 << 20))
def test_random_file(arch, data, size, seed):
    config, drawn_as = data.draw(CONFIGS[arch]), data.draw(st.one_of(st.just({}), PLANES))
    try:
        file = file_of(random_network(arch, config, seed=seed, **size), **drawn_as)
    except ValueError as error:
        assume("a map of a single pixel" not in str(error))
        assume("base_times" not in str(error))
        raise
    video = reference_decoder.decode(file)
    exact = [video.codes(i).ravel() for i in range(size["n_frames"])]
    with VideoFile(file, device="cpu") as product:
        for number, segment in enumerate(video.segments):
            for name, parameter in product.load(number).named_parameters():
                assert np.array_equal(parameter.numpy(force=True), segment.weights[name])
        frames = [flat(frame) for frame in product.drawn(range(len(product)), 8)]
    # In 32 bits a sample that is nearly a tie may be rounded the other way, and no other.
    assert np.abs(np.stack(frames) - np.clip(exact, 0, 255)).max() < 0.51
