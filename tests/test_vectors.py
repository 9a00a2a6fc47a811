"""Golden files: the product and the reference decoder agree on every one of them."""

import hashlib
import json
import subprocess
import sys
import time
from collections import defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import reference_decoder
import torch
from click.testing import CliRunner
from nrv_factory import flat

from nvcodec import cli, errors, fields
from nvcodec.bitstream.extras import pack_track
from nvcodec.bitstream.tensors import dequantize
from nvcodec.codec.contents import check_structure, read_tensors
from nvcodec.codec.decoder import VideoFile, to_numpy
from nvcodec.codec.ycbcr import to_frames
from nvcodec.models import ARCHITECTURES
from nvcodec.models.layers import to_samples

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "tests" / "vectors"
VALID = sorted([*FOLDER.glob("common/*.nrv"), *FOLDER.glob("uncommon/*.nrv")])
FAULTY = sorted(FOLDER.glob("faulty/*.nrv"))
MATRIX = [
    FOLDER / "common" / f"{name}.nrv"
    for name in ("3dnerv", "canvas-default", "enerv", "hdr10", "hinerv", "segments", "yuv")
]
EXIT_CODES = {
    4: reference_decoder.Corrupt,
    5: reference_decoder.Unsupported,
    6: reference_decoder.TooLarge,
}

sys.path.append(str(FOLDER))


def name_of(path):
    return f"{path.parent.name}/{path.stem}"


def record_of(path):
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@cache
def reference(path):
    """Return what the reference decoder reads, and its frames."""
    video = reference_decoder.decode(path.read_bytes())
    return video, video.frames()


def samples_of(product):
    """Return the 8-bit samples of all frames in the form in which they are drawn."""
    return np.stack([flat(frame) for frame in product.drawn(range(len(product)), 8)])


def assert_frames_conform(frames, path):
    """Clause C2: at least 99.9 % of the samples are those of the reference, none is off by 2."""
    expected = reference(path)[1]
    difference = np.abs(frames.reshape(len(frames), -1) - expected.reshape(len(frames), -1) * 1.0)
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.999


@pytest.mark.parametrize("path", VALID, ids=name_of)
def test_reference_decoder(path):
    record = record_of(path)
    video, frames = reference(path)
    assert [segment.sha256 for segment in video.segments] == record["tensors_sha256"]
    assert [sha256(frame.tobytes()) for frame in frames] == record["frames_sha256"]
    assert video.header == record["info"]["header"]
    assert [s.config for s in video.segments] == [s["config"] for s in record["info"]["segments"]]


@pytest.mark.parametrize("path", VALID, ids=name_of)
def test_product(path):
    video, _ = reference(path)
    with VideoFile(path, device="cpu") as product:
        for mine, theirs in zip(product.stream.segments, video.segments, strict=True):
            _, tensors = read_tensors(mine, product.stream.header)
            assert [q.spec.name for q in tensors] == list(theirs.tensors)
            for q, (name, shape, _) in zip(tensors, theirs.network.shapes, strict=True):
                assert q.spec.shape == shape
                assert q.spec.row_axis == theirs.tensors[name].row_axis
                assert q.steps.tolist() == theirs.tensors[name].steps
                assert q.symbols.ravel().tolist() == theirs.tensors[name].symbols
                np.testing.assert_array_equal(dequantize(q), theirs.weights[name])
        assert_frames_conform(samples_of(product), path)
        assert_extras_agree(product.stream, video)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_frames(bits):
    """Samples come from the network at their depth, not from those of 8 bits."""
    path = FOLDER / "common" / "hdr10.nrv"
    frames = np.stack([reference(path)[0].frame(i, bits) for i in range(2)])
    with VideoFile(path, device="cpu", bit_depth=bits) as product:
        difference = np.abs(product[:2].astype(int) - frames)
    assert difference.max() <= max(1, 2 ** (bits - 10))
    assert len(np.unique(frames)) > 256


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_planes(bits):
    path = FOLDER / "uncommon" / "yuv-top-left.nrv"
    video, _ = reference(path)
    expected = np.stack([video.frame(i, bits) for i in range(video.header["n_frames"])])
    with VideoFile(path, device="cpu") as product:
        planes = np.stack([flat(frame) for frame in product.drawn(range(len(product)), bits)])
    assert planes.dtype == np.uint16
    assert np.abs(planes.astype(int) - expected).max() <= max(1, 2 ** (bits - 10))


@pytest.mark.parametrize("name", ["corrected-moving", "corrected-moving-large", "corrected-small"])
@pytest.mark.parametrize("bits", [10, 16])
def test_deep_corrections(name, bits):
    """Blocks show the frame before at its depth."""
    path = FOLDER / "uncommon" / f"{name}.nrv"
    video, frames = reference(path)
    expected = np.stack([video.frame(i, bits) for i in range(len(frames))])
    with VideoFile(path, device="cpu", bit_depth=bits) as product:
        difference = np.abs(product[:].astype(int) - expected)
    assert difference.max() <= max(1, 2 ** (bits - 10))
    assert bits > 10 or (difference == 0).mean() > 0.99
    assert (expected % 2 ** (bits - 8) > 0).mean() > 0.5


def assert_extras_agree(stream, video):
    """What goes with the pictures is read alike."""
    assert stream.metadata.decode() == video.metadata
    for records, others in (
        ([stream.display] * (video.display is not None), [video.display]),
        ([stream.hdr] * (video.hdr is not None), [video.hdr]),
        (stream.extras.chapters, video.chapters),
        (stream.extras.tags, video.tags),
    ):
        for record, other in zip(records, others, strict=False):
            assert {key: getattr(record, key) for key in other} == other
    assert len(stream.extras.chapters) == len(video.chapters)
    assert len(stream.extras.tags) == len(video.tags)
    assert (stream.timing is None) == (video.times is None)
    if stream.timing is not None:
        assert list(stream.timing.pts) == video.times[1]
    for track, other in zip(stream.extras.tracks, video.tracks, strict=True):
        packets = other["packets"]
        values = {key: getattr(track.header, key) for key in other if key != "packets"}
        assert values | {"packets": packets} == other
        assert [{k: getattr(p, k) for k in packets[0]} for p in track.packets] == packets
        payloads = [c.payload for c in video.chunks if c.type == "trAK"]
        assert pack_track(track) in payloads


@pytest.mark.parametrize("path", VALID, ids=name_of)
def test_info(path):
    import make

    record = record_of(path)
    assert sha256(path.read_bytes()) == record["sha256"]
    assert make.key_info(path) == record["info"]


def test_every_choice_has_a_vector():
    seen = defaultdict(set)
    for path in VALID:
        for segment in reference(path)[0].segments:
            for tensor in segment.tensors.values():
                seen["row axis"].add(tensor.row_axis)
                seen["mode"].add(tensor.mode)
                seen["step"] |= set(tensor.steps)
                seen["scale"] |= set(tensor.scales)
            for name, value in segment.config.items():
                seen[segment.header["arch_id"] & 255, name].add(str(value))
            if segment.corrections is not None:
                vectors = [v for frame in segment.corrections.vectors for v in frame.values()]
                seen["halves"] |= {(down % 2, across % 2) for down, across in vectors}
                seen["vectors"] |= {part for vector in vectors for part in vector}
            if segment.header["arch_id"] & 256:
                for name in ("chroma", "siting", "full_range"):
                    seen["planes", name].add(reference(path)[0].header[name])
    assert seen["row axis"] == {None, 0, 1}
    assert seen["mode"] == {0, 1, 2, 3, 4}
    assert {0, 255} <= seen["step"]
    assert {0, 1, 63} <= seen["scale"]
    assert seen["halves"] == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {-1023, 1023} <= seen["vectors"]
    assert seen["planes", "chroma"] == {420, 422, 444, 400}
    assert seen["planes", "siting"] == {0, 1, 2, 3, 4}
    assert seen["planes", "full_range"] == {0, 1}
    for arch_id, cls in ARCHITECTURES.values():
        for name, _, bounds, meaning in fields.describe(cls.Config):
            if ": 0 " in meaning and name != "activation":
                low, high = map(int, bounds.split(".."))
                assert seen[arch_id, name] == set(map(str, range(low, high + 1)))
    activations = set().union(*(seen[arch_id, "activation"] for arch_id in (1, 2, 3)))
    assert activations == set(map(str, range(9)))


@pytest.mark.parametrize("path", FAULTY, ids=name_of)
def test_fault(path):
    record = record_of(path)
    data = path.read_bytes()
    assert sha256(data) == record["sha256"]
    error = getattr(errors, record["error"])
    began = time.process_time()
    with pytest.raises(errors.BitstreamError) as caught:
        check_structure(data)
    # A bound against hangs, not a timing.
    assert time.process_time() - began < 30
    assert type(caught.value) is error
    assert record["message"] in str(caught.value)
    assert error.exit_code == record["exit_code"]
    result = CliRunner().invoke(cli.main, ["verify", str(path)], prog_name="nvcodec")
    assert result.exit_code == record["exit_code"], result.output
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("path", FAULTY, ids=name_of)
def test_reference_decoder_finds_the_fault(path):
    record = record_of(path)
    if record["valid"]:
        reference_decoder.decode(path.read_bytes())
        return
    with pytest.raises(reference_decoder.Invalid) as caught:
        reference_decoder.decode(path.read_bytes())
    assert type(caught.value) is EXIT_CODES[record["exit_code"]]


def drawn(path, *, batch=1, dtype=torch.float32, layout=None, device="cpu"):
    """Return all frames of a file, drawn in another way than the usual one."""
    frames = []
    with VideoFile(path, device=device, batch=batch) as video, torch.inference_mode():
        for number, segment in enumerate(video.stream.segments):
            model = video.load(number).to(dtype)
            for parameter in model.parameters():
                if layout is not None and parameter.ndim == 4:
                    parameter.data = parameter.data.contiguous(memory_format=layout)
            step = batch * model.clip_frames
            for first in range(0, segment.header.n_frames, step):
                last = min(first + step, segment.header.n_frames)
                index = torch.arange(first, last, device=video.device)
                y = model(index)
                if video.draws_yuv(number):
                    frames.append(np.stack([flat(f) for f in to_frames(y.float(), video.info, 8)]))
                else:
                    frames.append(to_numpy(to_samples(y)))
    return np.concatenate(frames)


@pytest.fixture
def restored_threads():
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("path", MATRIX, ids=name_of)
@pytest.mark.parametrize(
    ("n_threads", "onednn", "batch", "layout"),
    [
        (2, True, 1, torch.channels_last),
        (1, False, 1, torch.channels_last),
        (1, True, 4, torch.channels_last),
        (1, True, 1, torch.contiguous_format),
        (2, False, 4, torch.contiguous_format),
    ],
    ids=["threads", "plain", "batch", "contiguous", "all"],
)
@pytest.mark.usefixtures("restored_threads")
def test_other_ways_to_draw(path, n_threads, onednn, batch, layout):
    torch.set_num_threads(n_threads)
    with torch.backends.mkldnn.flags(enabled=onednn):
        assert_frames_conform(drawn(path, batch=batch, layout=layout), path)


@pytest.mark.parametrize("path", MATRIX, ids=name_of)
def test_64_bits(path):
    frames, expected = drawn(path, batch=4, dtype=torch.float64), reference(path)[1]
    difference = np.abs(frames.reshape(len(frames), -1) - expected.reshape(len(frames), -1) * 1.0)
    assert difference.max() <= 1
    # Positional encodings are rounded to 32 bits, whatever follows.
    assert (difference > 0).mean() < 1e-4


@pytest.mark.parametrize(
    "name", ["3dnerv", "canvas-default", "enerv", "hinerv", "hnerv", "nerv", "segments"]
)
def test_coarse_arithmetic_costs_what_the_specification_says(name):
    path = FOLDER / "common" / f"{name}.nrv"
    for dtype, low_db, high_db in ((torch.bfloat16, 45.5, 54.5), (torch.float16, 57.5, 65)):
        difference = drawn(path, dtype=dtype) - reference(path)[1] * 1.0
        assert (difference == 0).mean() < 0.999
        assert low_db < -10 * np.log10(np.mean((difference / 255) ** 2)) < high_db


@pytest.mark.gpu
@pytest.mark.parametrize("path", VALID, ids=name_of)
def test_cuda(path):
    with VideoFile(path, device="cuda") as video:
        assert_frames_conform(samples_of(video), path)
        video.batch = 4
        assert_frames_conform(samples_of(video), path)


def test_documents():
    import make

    counts = [len(list(FOLDER.glob(f"{name}/*.nrv"))) for name in ("common", "uncommon", "faulty")]
    stated = "{} common, {} uncommon, {} faulty files".format(*counts)
    assert stated in (ROOT / "README.md").read_text(encoding="utf-8")
    assert make.readme() == (FOLDER / "README.md").read_text(encoding="utf-8")
    assert make.SPEC.read_text(encoding="utf-8").endswith("\n" + make.spec_sections())


def test_vectors_are_small_and_complete():
    import make

    for folder, recipes in (
        ("common", make.COMMON),
        ("uncommon", make.UNCOMMON),
        ("faulty", make.FAULTY),
    ):
        names = {path.stem for path in (FOLDER / folder).glob("*.nrv")}
        assert names == {path.stem for path in (FOLDER / folder).glob("*.json")}
        assert set(recipes) <= names
    paths = [*VALID, *FAULTY]
    assert max(path.stat().st_size for path in paths) <= make.MAX_BYTES
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.*")) < 1 << 20


def test_reference_decoder_is_independent():
    statement = "import reference_decoder, sys; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", statement], cwd=FOLDER.parent, capture_output=True, text=True
    )
    assert not {"nvcodec", "torch", "constriction", "av"} & set(run.stdout.split())
    assert "reference_decoder.networks" in run.stdout.split()
