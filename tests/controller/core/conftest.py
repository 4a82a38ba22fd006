"""A run under way, for the tests of the core."""

import pytest

from support.streams import Trainer, descent


@pytest.fixture
def trainer() -> Trainer:
    """A healthy run at step 200 with two snapshots: the start state, and a proven one at 100."""
    made = Trainer()
    losses = descent(200)
    made.snapshot(1, proven=True)
    made.train(losses[:100])
    made.snapshot(2)
    made.train(losses[100:])
    return made
