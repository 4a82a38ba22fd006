"""The mean loss of several ranks, where the process group ends before the pilot."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

from lrpilot.torch.mean import MeanLosses

ROWS = [(seq, seq - 1, 0, 0, (0.1,)) for seq in (1, 2, 3)]


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def test_what_was_not_averaged_is_the_first_ranks_own_also_when_the_group_is_gone(
    group: None,
) -> None:
    losses = MeanLosses()
    assert losses.read(torch.tensor(1.0), ROWS[0]) is None
    losses.meet()
    assert losses.read(torch.tensor(2.0), ROWS[1]) is None
    dist.destroy_process_group()
    losses.part()
    assert losses.read(torch.tensor(3.0), ROWS[2]) == 3.0
    assert losses.drain() == [(ROWS[0], 1.0), (ROWS[1], 2.0)]
