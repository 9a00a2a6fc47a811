"""A decoder written from bitstream_spec.md alone: numpy and the standard library, nothing else.

It shares no code with the product on purpose: the tests compare the two. It is slow, computes in
64-bit floating point and is strict; whole .nrv files go in, tensors and frames come out.
"""

from reference_decoder.coder import RangeDecoder, laplace_table, tensor
from reference_decoder.errors import Corrupt, Invalid, TooLarge, Unsupported
from reference_decoder.video import Video, decode

__all__ = [
    "Corrupt",
    "Invalid",
    "RangeDecoder",
    "TooLarge",
    "Unsupported",
    "Video",
    "decode",
    "laplace_table",
    "tensor",
]
