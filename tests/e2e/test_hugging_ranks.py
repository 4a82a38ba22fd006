"""Several ranks of DDP in Hugging Face's Trainer, and in a loop that Accelerate prepared."""

import socket
from pathlib import Path

import pytest
import torch

from support.daemon import script
from support.scripts.hugging_ranks import FAR, STEPS


@pytest.mark.slow
def test_ranks_are_one_through_a_search(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    trainer = script("hugging_ranks.py", tmp_path, "2", str(port))
    try:
        assert trainer.wait(timeout=250) == 0
    finally:
        trainer.kill()
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    for loop, batches in (("trainer", STEPS), ("accelerate", 2 * STEPS)):
        one, other = first[loop], second[loop]
        assert len(one["lrs"]) == batches
        assert one["lrs"] == other["lrs"]
        assert one["lrs"][-1] > 100 * FAR
        assert all(map(torch.equal, one["weights"], other["weights"]))
        assert len(one["programs"]) > 5
