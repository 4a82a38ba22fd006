"""How many processes train together, and which of them this is."""

import os

import torch.distributed


def rank_and_world() -> tuple[int, int]:
    """(rank, world size); (0, 1) where training is not distributed."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    try:
        # A launcher sets them before the process group exists.
        return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    except ValueError:
        return 0, 1
