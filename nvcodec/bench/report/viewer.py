"""The side-by-side view of the page: two pictures, a divider, and flicker."""

from __future__ import annotations

from collections.abc import Sequence

from nvcodec.bench.report.groups import RateGroup
from nvcodec.bench.report.markup import Markup, element, join
from nvcodec.bench.report.samples import Sample

_ZOOMS = (("0", "full width"), ("1", "100 %"), ("2", "200 %"), ("4", "400 %"))


def viewer(samples: list[Sample], groups: list[RateGroup]) -> Markup | None:
    """Return the side-by-side view; None where there are not two pictures of one rate."""
    numbers = sorted({rate for sample in samples for rate in sample.rates})
    codecs = list(dict.fromkeys((sample.codec, sample.name) for sample in samples))
    if not numbers or len(codecs) < 2:
        return None
    rates = [(str(number), f"{groups[number].bpp:.3g} bpp") for number in numbers]
    # First this codec against the first other one; without one, against the source.
    kinds = list({sample.codec: sample.kind for sample in samples}.values())
    left = next(i for i, kind in enumerate(kinds) if kind != "source")
    right = next((i for i, kind in enumerate(kinds) if kind not in ("source", kinds[left])), 0)
    pictures = [
        element(
            "figure",
            element(
                "img", src=sample.url, alt=sample.caption, decoding="async",
                data_codec=sample.codec, data_rates=" ".join(map(str, sample.rates)),
                data_bpp=None if sample.bpp is None else f"{sample.bpp:.6g}",
            ),
            element("figcaption", sample.caption),
        )
        for sample in samples
    ]  # fmt: skip
    controls = element(
        "div",
        choice("rate", "Rate", rates, chosen=len(rates) // 2),
        _select("left", "Left", codecs, chosen=left),
        _select("right", "Right", codecs, chosen=right),
        _select("zoom", "Size", _ZOOMS, chosen=0),
        element("button", "Flicker", type="button", aria_pressed="false", data_flicker=True),
        class_="controls",
    )
    stage = element(
        "div", element("div", class_="stage"), class_="stage-scroll", tabindex="0", role="group",
        aria_label="The two pictures",
    )  # fmt: skip
    slider = element(
        "label", "Divider ",
        element("input", type="range", min="0", max="100", step="1", value="50"),
        class_="divider",
    )  # fmt: skip
    captions = element(
        "div", *(element("p", data_caption=side) for side in ("left", "right")),
        class_="captions", aria_live="polite",
    )  # fmt: skip
    view = element("div", controls, stage, slider, captions, class_="viewer", hidden=True)
    return join(view, element("div", *pictures, class_="sheet"))


def _select(name: str, label: str, options: Sequence[tuple[str, str]], *, chosen: int) -> Markup:
    entries = [
        element("option", text, value=value, selected=i == chosen)
        for i, (value, text) in enumerate(options)
    ]
    return element("label", label, element("select", *entries, name=name))


def choice(name: str, title: str, options: Sequence[tuple[str, str]], *, chosen: int = 0) -> Markup:
    """Return radio buttons of values and texts."""
    labels = [
        element(
            "label",
            element("input", type="radio", name=name, value=value, checked=i == chosen),
            text,
        )
        for i, (value, text) in enumerate(options)
    ]
    return element("fieldset", element("legend", title), element("div", *labels, class_="choices"))
