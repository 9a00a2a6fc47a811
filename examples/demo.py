"""Encode the example clip with the default settings, decode it to mp4, and print the figures."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE.parent / "demo"


def run(*arguments: str) -> None:
    print("$ nvcodec", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "nvcodec", *arguments], check=True)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    source, coded, decoded = HERE / "bunny.mp4", OUT / "bunny.nrv", OUT / "bunny.mp4"
    run("encode", str(source), "-o", str(coded), "-y")
    run("decode", str(coded), "-o", str(decoded), "-y")
    print(f"Compare {source} with {decoded}.")


if __name__ == "__main__":
    main()
