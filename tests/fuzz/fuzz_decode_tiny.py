"""Coverage-guided fuzzing of whole decodes of tiny files.

`python tests/fuzz/fuzz_decode_tiny.py CORPUS -max_total_time=60`
"""

import sys

import atheris

with atheris.instrument_imports(
    include=["nvcodec.bitstream", "nvcodec.fields", "nvcodec.codec", "nvcodec.models"]
):
    import targets

    import nvcodec.codec.decoder  # noqa: F401  instrumented here, used by targets
from nvcodec.errors import BitstreamError


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change bytes and repair the checksums; in most turns the words or all weights as well."""
    changed = targets.with_checksums(atheris.Mutate(data, max_size))
    if seed % 4:
        try:
            changed = targets.with_new_weights(changed, seed)
        except (BitstreamError, ValueError):
            # Not a file any more, or one that no writer makes.
            return changed[:max_size]
    return changed[:max_size]


atheris.Setup(sys.argv, targets.decode_tiny, custom_mutator=mutate)
atheris.Fuzz()
