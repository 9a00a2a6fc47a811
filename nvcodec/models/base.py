"""What every architecture offers; the codec knows networks only through this class.

Invariant: a model is rebuilt from an integer-only Config, the frame count and the frame size alone;
its parameters, in the order of `named_parameters`, are what the file carries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nvcodec import fields
from nvcodec.errors import UsageError
from nvcodec.models.layers import to_samples

GoOn = Callable[[int, int], bool]
"""Takes how much of some work is done and of how much; says whether there is time for more."""


class VideoModel(nn.Module):
    """A network that draws frame `index` of one segment.

    Shapes: index (B,) int64 in [0, n_frames) -> (B, 3, height, width), nominally in [0, 1].
    """

    Config: ClassVar[Any]
    """The frozen, integer-only dataclass that goes into the file."""
    latent_names: tuple[str, ...] = ()
    """Parameters of shape (n_entries, channels, ...) that hold one entry per clip of frames."""
    steady_names: ClassVar[tuple[str, ...]] = ()
    """Latents whose entries change little, so that training estimates the rate of differences."""
    field_names: ClassVar[tuple[str, ...]] = ()
    """Parameters, by the start of their names, that are pictures, not matrices to multiply by."""
    picture_names: ClassVar[tuple[str, ...]] = ()
    """Parameters, likewise, that training takes to be coded as pictures where they are large."""
    density: ClassVar[float] = 1.0
    """Bits a parameter that suit this architecture, relative to plain convolutions."""
    bf16_on_cpu: ClassVar[bool] = True
    """Whether bfloat16 may be used to fit on a CPU, where it is the faster one."""
    analyses: tuple[str, ...] = ("none",)
    """Kinds of encoder networks that `analysis` can make, the default first."""

    def __init__(self, config: Any, n_frames: int, height: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.n_frames = n_frames
        self.height = height
        self.width = width

    @property
    def clip_frames(self) -> int:
        """Frames that are drawn together and share one entry of a latent."""
        return 1

    def forward(self, index: Tensor, latents: dict[str, Tensor] | None = None) -> Tensor:
        """Draw the frames with these indices.

        latents by name stand in for the stored entries of `latent_names`: one for each distinct
        clip among the frames, in the order of first appearance. Where every frame is a clip of its
        own, index may also be float64 moments between frames, with one entry for each of them.
        """
        raise NotImplementedError

    def dct_side(self, name: str) -> int:
        """Return the side of the blocks of which a parameter holds DCT coefficients, 0 for none."""
        return 0

    def value_weight(self, name: str) -> float:
        """Return how much a value of a parameter counts towards the size that suits a target."""
        return 1.0

    def draw_samples(self, index: Tensor, bit_depth: int = 8) -> Tensor:
        """Draw the frames with these indices as integers of 8 to 16 bits.

        Shapes: index (B,) -> (B, 3, height, width), uint8 or uint16 of 0 to 2^bit_depth - 1.
        """
        return to_samples(self(index), bit_depth)

    def prepare(self, frames: Tensor, peak: int = 255, go_on: GoOn = lambda *_: True) -> None:
        """Set starting values from the frames (N, 3, H, W), 0 to peak, that will be fitted.

        Long work asks `go_on(done, total)` now and then, and makes do with what it has if not.
        """

    def draw_between(self, position: Tensor) -> Tensor:
        """Draw the frames at fractional indices, whole ones as `forward` does.

        Latents are interpolated linearly (HNeRV, video interpolation): a k-th of the way to the
        next clip's entry draws a clip that begins a k-th of a clip later. A model that is a
        function of time, such as t = index / n_frames, finds the fractional index in `forward`.

        Shapes: position (B,) float64 in [0, n_frames - 1] -> (B, 3, height, width).
        """
        n = self.clip_frames
        last_clip = math.ceil(self.n_frames / n) - 1
        # Which frame of the drawn clip is meant; no clip begins after the last one.
        offset = torch.maximum(position.floor() % n, (position - last_clip * n).ceil())
        begin = (position - offset).clamp_min(0) / n
        clip = begin.floor().long()
        latents = {}
        for name in self.latent_names:
            stored = self.get_parameter(name)
            here, after = stored[clip], stored[(clip + 1).clamp_max(last_clip)]
            share = (begin - clip).to(stored.dtype).view(-1, *[1] * (stored.ndim - 1))
            latents[name] = torch.lerp(here, after, share)
        if n == 1:
            return self(position, latents or None)  # type: ignore[no-any-return]
        index = clip * n + offset.long()
        alone = [
            self(index[i : i + 1], {name: z[i : i + 1] for name, z in latents.items()})
            for i in range(len(index))
        ]
        return torch.cat(alone)

    def draw_all(
        self, index: Tensor, latents: dict[str, Tensor] | None, heads: nn.ModuleList
    ) -> list[Tensor]:
        """Draw the frames, and with `side_heads` coarser versions of them from earlier stages."""
        raise NotImplementedError

    def side_heads(self) -> nn.ModuleList | None:
        """Return new heads for the stages before the last, used only to fit; None: it has none.

        They supervise the network at several resolutions (NeRV, `lw`).
        """
        return None

    def analysis(self, kind: str, *, width: int = 64, n_blocks: int = 1) -> nn.Module | None:
        """Return a new encoder network, used only to fit, or None for "none".

        It maps the frames of clips (B clip_frames, 3, H, W) to latents (B, channels, ...), through
        stages of `n_blocks` blocks with `width` channels.
        """
        return None

    def freeze(self) -> None:
        """Turn what was measured over batches while training into parameters (batch norm)."""
        for module in self.modules():
            freeze = getattr(module, "freeze", None)
            if module is not self and callable(freeze):
                freeze()
        self.eval()

    def settle(self) -> None:
        """Prepare to draw with the parameters as they are: what they alone decide is computed."""

    def macs_per_frame(self) -> int:
        """Return the multiply-accumulates that one frame costs."""
        raise NotImplementedError

    def peak_activations(self) -> int:
        """Return the values of the largest feature map of what is drawn together."""
        raise NotImplementedError

    @classmethod
    def smallest(cls, n_frames: int, height: int, width: int, **options: Any) -> Any:
        """Return the Config with the fewest parameters that these options allow."""
        raise NotImplementedError

    @classmethod
    def solve(cls, n_params: float, n_frames: int, height: int, width: int, **options: Any) -> Any:
        """Return the Config whose total parameter count comes closest to n_params from below.

        Options are fields of Config; those not given are chosen to suit. Raises UsageError when an
        option is unknown or out of range, or the smallest model is larger than n_params.
        """
        raise NotImplementedError


def count_params(model: VideoModel) -> int:
    """Return the number of values the file carries for this model, latents included."""
    return sum(p.numel() for p in model.parameters())


def weigh_params(model: VideoModel) -> float:
    """Return the number of values of this model, each counted as its `value_weight`."""
    return sum(model.value_weight(name) * p.numel() for name, p in model.named_parameters())


def shape_only(
    cls: type[VideoModel], config: Any, n_frames: int, height: int, width: int
) -> VideoModel:
    """Build a model without memory for its parameters: counts hostile configurations safely."""
    with torch.device("meta"):
        return cls(config, n_frames, height, width)


def shape_of_options(
    cls: type[VideoModel], config: Any, n_frames: int, height: int, width: int
) -> VideoModel:
    """Do the same for what a user chose; raise UsageError where it does not go together."""
    try:
        return shape_only(cls, config, n_frames, height, width)
    except ValueError as error:
        raise UsageError(f"{cls.__name__} cannot be built: {error}") from error


def parse_options(
    cls: type[VideoModel], options: Mapping[str, Any], *, solved: str, extra: Any = None
) -> dict[str, Any]:
    """Return options as values of Config fields; names of choices become their integers.

    `solved` is the field that `solve` finds itself, `extra` a dataclass of fields that `solve`
    understands and no file holds. Raises UsageError that names what is allowed.
    """
    owners = [cls.Config] if extra is None else [cls.Config, extra]
    places = {name: owner for owner in owners for name in owner.__dataclass_fields__}
    places.pop(solved, None)
    parsed = {}
    for name, value in options.items():
        if name not in places:
            raise UsageError(
                f"{cls.__name__} has no option {name}; allowed are {', '.join(sorted(places))}"
            )
        try:
            parsed[name] = fields.parse(places[name], name, value)
        except ValueError as error:
            message = str(error).replace(f"{places[name].__name__}.", "")
            raise UsageError(f"option {message}") from error
    return parsed


def widest(
    cls: type[VideoModel],
    build: Callable[[int], Any],
    max_width: int,
    n_params: float,
    n_frames: int,
    height: int,
    width: int,
) -> Any:
    """Return build(w) for the largest w of 1..max_width whose model has at most n_params values.

    Values count as `weigh_params` says; the count must grow with w. Raises UsageError when even
    build(1) has more.
    """

    def count(w: int) -> float:
        return weigh_params(shape_only(cls, build(w), n_frames, height, width))

    if count(1) > n_params:
        raise UsageError(
            f"{cls.__name__} needs at least {math.ceil(count(1))} parameters for {n_frames} frames "
            f"of {width}x{height}, but the target allows {int(n_params)}"
        )
    low, high = 1, max_width
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(middle) <= n_params else (low, middle - 1)
    return build(low)
