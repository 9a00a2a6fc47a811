"""The command line: one file for each group of commands; `main` is the program.

Nothing heavy is imported here, so that --help and completion are instant.
"""

from nvcodec.cli import bench, decode, encode, experiments, inspect, player
from nvcodec.cli.base import main

__all__ = ["bench", "decode", "encode", "experiments", "inspect", "main", "player"]
