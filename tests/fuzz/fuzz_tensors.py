"""Coverage-guided fuzzing of tensors and the range coder.

`python tests/fuzz/fuzz_tensors.py CORPUS -max_total_time=60`
"""

import sys

import atheris

with atheris.instrument_imports(include=["nvcodec.bitstream"]):
    import targets


atheris.Setup(sys.argv, targets.tensors)
atheris.Fuzz()
