"""What a decoder agrees to allocate for a file, whatever the file says."""

import sys
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper bounds checked before any allocation (values in the spirit of libavif's defaults)."""

    max_side: int = 32_768
    """Largest width or height, in pixels."""
    max_pixels: int = 1 << 28
    """Largest width x height of one frame (16384 x 16384)."""
    max_frames: int = 12 * 3600 * 60
    """Most frames of one file: 12 hours at 60 frames/s."""
    max_params: int = 1 << 28
    """Most coded integers of one segment."""
    max_activations: int = 1 << 30
    """Largest feature map of what is drawn together, in values (4 GiB as float32)."""
    max_macs: int = 1 << 45
    """Most multiply-accumulates of one frame."""
    max_segments: int = 65_536
    """Most segments of one file."""
    max_metadata_bytes: int = 1 << 20
    """Largest ancillary chunk but trAK and tiME."""
    max_tracks: int = 64
    """Most sound and subtitle tracks of one file."""
    max_track_bytes: int = 1 << 30
    """Largest trAK or tiME chunk."""
    max_packets: int = 1 << 24
    """Most packets of one track."""
    max_output_bytes: int = 1 << 38
    """Largest output that is not a compressed video: Y4M, PNG and NumPy files (256 GiB)."""


DEFAULT = Limits()
UNLIMITED = Limits(**dict.fromkeys((field.name for field in fields(Limits)), sys.maxsize))
