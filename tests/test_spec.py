"""The specification must say what the code does: its tables, literals and examples are compared."""

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from reference_decoder import RangeDecoder, tensor
from reference_decoder import container as reference
from reference_decoder.networks import ARCHITECTURES as NETWORKS

from nvcodec import fields
from nvcodec.bitstream import container, laplace
from nvcodec.bitstream.extras import (
    MAX_CHAPTERS,
    MAX_PACKET_BYTES,
    MAX_TAGS,
    PacketCue,
    PacketDuration,
    PacketSkip,
    PacketTime,
    TimingHeader,
)
from nvcodec.bitstream.header import CHROMA_FORMATS, SegmentHeader, StreamHeader
from nvcodec.bitstream.tensors import (
    QTensor,
    TensorSpec,
    pack_tensors,
    step_size,
    tensors_sha256,
)
from nvcodec.limits import DEFAULT
from nvcodec.media import AUDIO, SUBTITLES, Chapter, Display, Hdr, Tag, TrackHeader
from nvcodec.models import ARCHITECTURES, layers

SPEC = (Path(__file__).parent.parent / "bitstream_spec.md").read_text(encoding="utf-8")


def field_table(heading):
    """Return the rows of the first table below a heading, without its two title lines."""
    section = SPEC.split(f"\n### {heading}\n")[1].split("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


def block(name):
    return re.search(rf"```{name}\n(.*?)```", SPEC, re.DOTALL)[1]


def literals(name):
    return [int(number) for number in block(name).replace("\n", " ").split(",")]


def test_stream_header():
    assert field_table("StreamHeader") == fields.describe(StreamHeader)


def test_segment_header():
    assert field_table("SegmentHeader") == fields.describe(SegmentHeader)


@pytest.mark.parametrize(
    "cls",
    [
        TimingHeader,
        Display,
        Hdr,
        TrackHeader,
        PacketTime,
        PacketDuration,
        PacketSkip,
        PacketCue,
        Chapter,
        Tag,
    ],
)
def test_records(cls):
    assert field_table(cls.__name__) == fields.describe(cls)


def registry(name):
    """Return a row of the registries as names by number."""
    row = re.search(rf"\n\| {name} \| section [\d.]+ \| (.*) \|\n", SPEC)[1]
    return {int(number): name for number, name in (e.split(" ") for e in row.split(", "))}


def test_registries():
    architectures = {"hnerv": "HNeRV", "nerv": "NeRV", "enerv": "E-NeRV"}
    architectures |= {"3dnerv": "3DNeRV", "canvas": "Canvas", "hinerv": "HiNeRV"}
    assert registry("architectures") == {
        number: architectures[name] for name, (number, _) in ARCHITECTURES.items()
    }
    for title, names in (
        ("activations", layers.ACTIVATION_NAMES),
        ("last functions", layers.OUTPUT_NAMES),
        ("upsampling", layers.UPSAMPLING_NAMES),
        ("normalisation", layers.NORM_NAMES),
    ):
        assert registry(title) == dict(enumerate(names))
    assert registry("kinds of tracks") == {AUDIO: "audio", SUBTITLES: "subtitles"}
    chroma = ", ".join(map(str, sorted(CHROMA_FORMATS)))
    assert f"| chroma formats | section 4 | {chroma} |" in SPEC
    types = set(re.findall(r"\n\| `(\w{3}[\w ])` \|", SPEC.split("## 4 ")[0]))
    known = ("VIDEO_HEADER", "SEGMENT", "METADATA", "TRACK", "CHAPTERS", "TAGS", "TIMING")
    assert types == {getattr(container, name) for name in (*known, "DISPLAY", "HDR", "END")}


def test_architecture_configs():
    headings = re.findall(r"\n### (\w+) config\n", SPEC)
    classes = {cls.__name__: cls for _, cls in ARCHITECTURES.values()}
    assert set(headings) == set(classes)
    for name, cls in classes.items():
        assert field_table(f"{name} config") == fields.describe(cls.Config)


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("StreamHeader", reference.STREAM_HEADER),
        ("SegmentHeader", reference.SEGMENT_HEADER),
        ("TimingHeader", reference.TIMING_HEADER),
        ("Display", reference.DISPLAY),
        ("Hdr", reference.HDR),
        ("TrackHeader", reference.TRACK_HEADER),
        *zip(
            ("PacketTime", "PacketDuration", "PacketSkip", "PacketCue"),
            (table for _, table in reference.PACKET_PARTS),
            strict=True,
        ),
        ("Chapter", reference.CHAPTER),
        ("Tag", reference.TAG),
        *((f"{cls.__name__} config", cls.fields) for cls in NETWORKS.values()),
    ],
)
def test_tables_of_the_reference_decoder(heading, table):
    rows = []
    for name, kind, low, high in table:
        kind, _, most = kind.partition("*")
        bounds = f"{low}..{high}" + (" bytes" if kind in ("utf8", "blob") else "")
        rows.append((name, f"{kind}[1..{most}]" if most else kind, bounds))
    assert rows == [row[:3] for row in field_table(heading)]


def test_sections():
    numbers = [int(number) for number in re.findall(r"\n## (\d+) ", SPEC)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 13


def test_laplace_literals():
    assert literals("E") == list(laplace.E)
    assert literals("Q") == list(laplace.Q)
    assert f"{', '.join(map(str, laplace.table(6)))}." in " ".join(SPEC.split())


def test_step_literals():
    assert [m / 2**15 for m in literals("M")] == step_size(np.arange(192, 200)).tolist()
    assert str(step_size(np.array([255]))[0]) in SPEC


def test_signature_end_chunk_and_crc():
    assert container.SIGNATURE.hex(" ").upper() in SPEC
    assert f"`{container.pack_chunk('END ', b'').hex(' ')}`" in SPEC
    assert f"0x{zlib.crc32(b'123456789'):08X}" in SPEC


def test_limits():
    assert 2**28 == DEFAULT.max_pixels == DEFAULT.max_params
    assert "| width x height | 2^28 |" in SPEC
    assert "| coded integers of a segment | 2^28 |" in SPEC
    assert f"| frames of a file | {DEFAULT.max_frames} " in SPEC
    assert f"| segments of a file | {DEFAULT.max_segments} |" in SPEC
    assert DEFAULT.max_activations == 2**30
    assert "| values of the largest feature map | 2^30 |" in SPEC
    assert DEFAULT.max_macs == 2**45
    assert "| multiply-accumulates of a frame | 2^45 |" in SPEC
    assert DEFAULT.max_metadata_bytes == 2**20
    assert DEFAULT.max_track_bytes == 2**30
    assert DEFAULT.max_packets == 2**24
    assert f"| trAK chunks of a file | {DEFAULT.max_tracks} |" in SPEC
    assert f"{MAX_CHAPTERS} chapters, {MAX_TAGS} tags, {MAX_PACKET_BYTES} bytes of a packet" in SPEC
    assert f"{container.MAX_ANCILLARY_CHUNKS} ancillary chunks" in SPEC


def test_example_of_a_coded_tensor():
    spec = TensorSpec(name="example", shape=(2, 8), row_axis=0)
    symbols = np.array([[0, 1, -1, 0, 2, 0, 0, -1], [0, 0, 1, 0, -1, 0, 0, 9000]], dtype=np.int32)
    q = QTensor(spec, symbols, np.array([100, 101], dtype=np.uint8))
    payload = bytes.fromhex(block("example"))
    assert pack_tensors([q]) == payload
    assert f"0x{tensors_sha256([q]):016x}" in SPEC
    decoder = RangeDecoder(payload)
    assert tensor(decoder, (2, 8), False) == ([100, 101], symbols.ravel().tolist())
    assert decoder.finished()
    for row in symbols.tolist():
        assert re.search(r"\n +" + r" +".join(map(str, row)) + r"\n", SPEC)
