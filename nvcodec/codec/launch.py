"""What the program that started several processes tells each of the others: torchrun or srun."""

from __future__ import annotations

import os
import re

from nvcodec.errors import UsageError

VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
FIRST_PORT, N_PORTS = 20000, 10000
"""Where srun's processes meet, by the number of the job: below the ports that Linux deals out."""
_HOST = r"(?:[\w.-]|\[\d+[-,\d]*\])+"


def team_variables() -> dict[str, str]:
    """Return torchrun's variables, as far as they are set or follow from those of srun.

    srun counts where RANK is not set and SLURM has several tasks; MASTER_ADDR and MASTER_PORT win
    over what would follow. Raises UsageError where srun's variables make no sense.
    """
    found = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    n_tasks = os.environ.get("SLURM_NTASKS", "1")
    if "RANK" in found or "SLURM_PROCID" not in os.environ or n_tasks == "1":
        return found
    size = _number("SLURM_NTASKS", 2)
    from_slurm = {
        "WORLD_SIZE": str(size),
        "RANK": str(_number("SLURM_PROCID", 0, size - 1)),
        "LOCAL_RANK": str(_number("SLURM_LOCALID", 0, size - 1)),
    }
    if "MASTER_ADDR" not in found:
        step = "SLURM_STEP_NODELIST"
        from_slurm["MASTER_ADDR"] = _meeting_host(
            step if step in os.environ else "SLURM_JOB_NODELIST"
        )
    if "MASTER_PORT" not in found:
        from_slurm["MASTER_PORT"] = str(FIRST_PORT + _number("SLURM_JOB_ID", 0) % N_PORTS)
    return found | from_slurm


def _number(name: str, least: int, most: int | None = None) -> int:
    text = _value(name)
    # Longer ones are no count of SLURM's, and Python refuses the longest.
    if re.fullmatch(r"[0-9]{1,10}", text) and least <= int(text) <= (most or int(text)):
        return int(text)
    allowed = f"{least} or more" if most is None else f"{least} to {most}"
    raise UsageError(f"--distributed: {name} is {text!r}, allowed is {allowed}")


def _meeting_host(name: str) -> str:
    """Return the first host of a list such as node[03-05,7],other1; loopback if it is the only."""
    text = _value(name)
    if not re.fullmatch(f"{_HOST}(,{_HOST})*", text):
        raise UsageError(
            f"--distributed: {name} is {text!r}, but hosts such as node[03-05,7],other1 are needed"
        )
    if not re.search(r",|\[\d+-", text):
        return "127.0.0.1"
    first = re.match(_HOST, text)
    assert first is not None
    return re.sub(r"\[(\d+)[-,\d]*\]", r"\1", first[0])


def _value(name: str) -> str:
    if name not in os.environ:
        raise UsageError(
            f"--distributed: srun started this process, but the variable {name} is missing"
        )
    return os.environ[name]
