"""Frames of .nrv files in any order from a torch DataLoader: python examples/dataset.py FILE..."""

import sys

import torch
from torch.utils.data import DataLoader

import nvcodec


def to_float(frame: torch.Tensor) -> torch.Tensor:
    return frame.float() / 255


def main() -> None:
    torch.manual_seed(0)
    frames = nvcodec.NrvDataset(sys.argv[1:], transform=to_float)
    for batch in DataLoader(frames, batch_size=4, shuffle=True, num_workers=2):
        print("batch", tuple(batch.shape), f"mean {batch.mean():.3f}")


if __name__ == "__main__":
    main()
