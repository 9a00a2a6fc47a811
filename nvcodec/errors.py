"""Every error that nvcodec raises on purpose, with the exit code of the command line.

Invariant: a message is one sentence that names what is wrong, its value and what is allowed.
"""


class NvcodecError(Exception):
    """Base of all errors raised on purpose; exit code 1."""

    exit_code = 1


class UsageError(NvcodecError):
    """An argument or a combination of arguments cannot be carried out."""

    exit_code = 2


class InputError(NvcodecError):
    """The input video cannot be found, read or decoded."""

    exit_code = 3


class BitstreamError(NvcodecError):
    """An .nrv file is not valid."""

    exit_code = 4


class TruncatedError(BitstreamError):
    """An .nrv file ends before the data that it announces."""


class CorruptError(BitstreamError):
    """A field, checksum or hash of an .nrv file is wrong."""


class UnsupportedError(BitstreamError):
    """An .nrv file needs a newer version or an unknown architecture."""

    exit_code = 5


class LimitError(BitstreamError):
    """A size or count is beyond the limits of this decoder."""

    exit_code = 6


class ResourceError(NvcodecError):
    """Memory, disk, device or numerical stability did not suffice."""

    exit_code = 7


class VerificationError(NvcodecError):
    """A file does not decode to what its encoder promised."""

    exit_code = 8


class Interrupted(NvcodecError):
    """The user stopped the work; its state is saved."""

    exit_code = 130
