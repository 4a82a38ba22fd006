"""Trainings of a test."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from support.hugging import (
    Runs,
)


@pytest.fixture(scope="module", autouse=True)
def _light() -> Iterator[None]:
    """Each training begins with a garbage collection, which would walk through all of torch."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Runs(tmp_path, monkeypatch)
    torch.set_num_threads(threads)
