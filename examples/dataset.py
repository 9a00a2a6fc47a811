"""Random access into an .nrv file from a torch DataLoader: python examples/dataset.py FILE."""

import sys

import torch
from torch.utils.data import DataLoader, Dataset

import nvcodec


class Frames(Dataset):
    """Frames of one .nrv file as float tensors (3, H, W); any frame costs the same."""

    def __init__(self, path: str) -> None:
        self.video = nvcodec.open(path)

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.video[index]).permute(2, 0, 1).float() / 255


def main() -> None:
    torch.manual_seed(0)
    for batch in DataLoader(Frames(sys.argv[1]), batch_size=4, shuffle=True):
        print("batch", tuple(batch.shape), f"mean {batch.mean():.3f}")


if __name__ == "__main__":
    main()
