"""Weights to start from: the network of an existing file."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

from nvcodec.bitstream.header import unpack_stream
from nvcodec.bitstream.tensors import QTensor
from nvcodec.codec.contents import architecture_of, read_file, read_tensors
from nvcodec.codec.plan import Plan
from nvcodec.errors import UsageError


class Initial:
    """The network of an .nrv file, as a start for others of the same shape."""

    def __init__(self, path: str | Path) -> None:
        """Read a file of one segment; raise InputError, BitstreamError or UsageError."""
        self.path = path
        data = read_file(path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        stream = unpack_stream(data)
        if len(stream.segments) > 1:
            raise UsageError(f"{path} has {len(stream.segments)} networks, one is needed")
        (segment,) = stream.segments
        model, tensors = read_tensors(segment, stream.header)
        self._tensors = tensors
        self._shape = {
            "arch": architecture_of(segment.header.plain_arch_id)[0],
            "color": "yuv" if segment.header.draws_yuv else "rgb",
            "frames": model.n_frames,
            "height": model.height,
            "width": model.width,
            **asdict(model.config),
        }

    def tensors(self, plan: Plan) -> list[QTensor]:
        """Return the weights for the network of a plan; raise UsageError if it is another one."""
        wanted = {
            "arch": plan.arch,
            "color": plan.fit.color,
            "frames": plan.n_frames,
            "height": plan.height,
            "width": plan.width,
            **asdict(plan.config),
        }
        different = [
            f"{name} ({self._shape.get(name)} there, {value} here)"
            for name, value in wanted.items()
            if self._shape.get(name) != value
        ]
        if different:
            raise UsageError(f"{self.path} holds a network with another {', '.join(different)}")
        return self._tensors
