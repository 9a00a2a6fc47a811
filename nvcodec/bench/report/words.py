"""The sentences of the report: what a reader must know to judge its figures."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from nvcodec.bench.report.samples import MAX_HEIGHT, MAX_WIDTH
from nvcodec.bench.results import BenchResults, SourceInfo

KIND_WORDS = {
    "nvcodec": "this codec",
    "anchor": "anchor, run here",
    "external": "external program, run here",
    "imported": "imported: measured elsewhere on these frames",
    "published": "published: of other frames, under other rules",
}
DEFINITIONS = (
    "Rate is the size of the file on disk \u00d7 8 / (width \u00d7 height \u00d7 frames). "
    "Quality is measured on 8-bit frames decoded from that file; PSNR is the mean over frames, "
    "PSNR-YUV weighs Y, U and V 6:1:1. BD-rate (Bjontegaard) is the mean difference in rate at "
    "equal quality over the interval of quality that both curves cover, negative where the codec "
    "needs fewer bits than the anchor; pchip and akima are two ways to interpolate between the "
    "points. The mean difference in quality is at equal rate."
)
SUMMARY = (
    "Bits that the codec at the head of a column needs more (+) or fewer (\u2212) than that of the "
    "row for the same PSNR-RGB: BD-rate (pchip), with the interval that both curves cover."
)
CURVES = "Quality against rate; lines connect the measured points and claim nothing between them."
FRAMES = (
    "PSNR-RGB of every frame. For each codec a panel shows the point whose rate is nearest, where "
    "that is within a factor of 1.5."
)
_SAMPLES = (
    "The same frame from two files of nearly the same rate, which the captions give. Drag the "
    "divider or move it with the arrow keys, or let the pictures alternate in place."
)


def failure_reason(reason: str | None) -> str:
    """Return a reason as the files have it, or that there is none."""
    return reason or "no reason is stored"


def cost_caption(reference: str | None, without: list[str]) -> str:
    """Return what the cost figures show; `without` has no BD-rate against the reference."""
    text = "What quality costs, on logarithmic axes."
    if reference is None:
        return text
    text += (
        f" BD-rate is in PSNR-RGB (pchip) against {reference}, lower is better; a codec's cost is "
        "the geometric mean over its points."
    )
    return f"{text} Without a BD-rate: {', '.join(without)}." if without else text


def samples_text(source: SourceInfo) -> str:
    """Return what the side-by-side view shows."""
    width, height = min(source.width, MAX_WIDTH), min(source.height, MAX_HEIGHT)
    if (width, height) == (source.width, source.height):
        return _SAMPLES
    return f"{_SAMPLES} Of the frame, the central {width} \u00d7 {height} pixels are shown."


def cautions(results: BenchResults) -> list[str]:
    """Return one sentence for everything that makes the figures weaker than they look."""
    notes = map(_capitalized, results.source.notes)
    found = [*notes, *_source(results), *_codecs(results), *_points(results)]
    return [text if text.endswith((".", "!", "?")) else f"{text}." for text in found]


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def _source(results: BenchResults) -> Iterator[str]:
    source = results.source
    if not source.lossy:
        return
    rate = "" if source.bpp is None else f" at {source.bpp:.4g} bpp"
    if not any("lossy" in note for note in source.notes):
        yield f"The source is lossy ({source.codec}{rate}): its artefacts count as picture"
    if source.bpp is not None:
        above = [
            codec.name
            for codec in results.codecs
            if any(p.bpp is not None and p.bpp >= source.bpp for p in codec.good_points)
            and codec.kind != "published"
        ]
        if above:
            yield f"Points at or above the source's own rate: {', '.join(above)}"


def _codecs(results: BenchResults) -> Iterator[str]:
    for codec in results.codecs:
        if codec.status == "not run":
            yield f"{codec.name} was not run: {failure_reason(codec.reason)}"
        elif codec.status == "failed":
            yield f"{codec.name} failed: {failure_reason(codec.reason)}"
    marks = (
        ("imported", "Imported, measured elsewhere, with times of another machine"),
        ("published", "Published figures of other frames under other rules, for context only"),
    )
    for kind, words in marks:
        names = [codec.name for codec in results.codecs if codec.kind == kind and codec.points]
        if names:
            yield f"{words}: {', '.join(names)}"


def _points(results: BenchResults) -> Iterator[str]:
    for codec in results.codecs:
        for point in codec.points:
            if point.status == "failed" and codec.status != "failed":
                yield f"{codec.name} failed at q {point.q:g}: {failure_reason(point.reason)}"
    points = [point for codec in results.codecs for point in codec.points]
    n_cached = sum(point.from_cache for point in points)
    if n_cached:
        yield (
            f"{n_cached} of {len(points)} points come from an earlier run (cached), "
            "and so do their times"
        )
    threads = {
        "their own choice" if point.decode_threads is None else f"{point.decode_threads}"
        for point in points
        if point.decode_fps is not None
    }
    if len(threads) > 1:
        yield f"Decoders used different numbers of threads ({', '.join(sorted(threads))})"


def source_facts(results: BenchResults) -> list[tuple[str, str]]:
    """Return names and values that describe the frames that every codec got."""
    source = results.source
    rate = "" if source.bpp is None else f", {source.bpp:.4g} bpp"
    size = f"{source.width} \u00d7 {source.height}, {source.n_frames} frames"
    return [
        ("File", source.file),
        ("Frames", f"{size}, {_frame_rate(source.frame_rate)} frames/s"),
        ("Stored as", f"{source.codec}, {'lossy' if source.lossy else 'lossless'}{rate}"),
        ("Samples", f"{source.chroma}, {source.bit_depth} bits; every codec gets 4:2:0, 8 bits"),
        ("SHA-256 of frames", source.frames_sha256),
    ]


def _frame_rate(text: str) -> str:
    try:
        return f"{float(Fraction(text)):.5g}"
    except (ValueError, ZeroDivisionError, OverflowError):
        return text


def run_facts(results: BenchResults) -> list[tuple[str, str]]:
    """Return names and values that describe where, when and how the bench ran."""
    machine = results.machine
    facts = [
        ("Date", results.started),
        ("nvcodec", results.nvcodec),
        ("Commit", results.commit or "not known"),
        ("CPU", f"{machine.cpu}; {machine.n_threads} threads"),
        ("nvcodec ran on", machine.device),
        ("System", machine.platform),
        ("Versions", ", ".join(f"{name} {number}" for name, number in machine.versions.items())),
    ]
    return [(name, value) for name, value in facts if value]
