"""Coverage-guided fuzzing of tensors and the range coder.

`python tests/fuzz/fuzz_tensors.py CORPUS -max_total_time=60`
"""

import sys

import atheris

with atheris.instrument_imports(include=["nvcodec.bitstream"]):
    import targets
from nvcodec.errors import BitstreamError


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change bytes; in most turns make the words a writer's again, which the reader asks for."""
    changed = atheris.Mutate(data, max_size)
    if seed % 4:
        try:
            changed = targets.with_closed_words(changed, seed)
        except BitstreamError:
            # What is read first is refused already.
            return changed
    return changed[:max_size]


atheris.Setup(sys.argv, targets.tensors, custom_mutator=mutate)
atheris.Fuzz()
