"""Coverage-guided fuzzing of the container and all chunks.

`python tests/fuzz/fuzz_container.py CORPUS -max_total_time=60`
"""

import sys

import atheris

with atheris.instrument_imports(include=["nvcodec.bitstream", "nvcodec.fields", "nvcodec.media"]):
    import targets


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change bytes; in most turns repair the checksums, behind which the parsers lie."""
    changed = atheris.Mutate(data, max_size)
    return (targets.with_checksums(changed) if seed % 8 else changed)[:max_size]


atheris.Setup(sys.argv, targets.container, custom_mutator=mutate)
atheris.Fuzz()
