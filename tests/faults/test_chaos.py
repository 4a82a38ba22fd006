"""A storm of all faults, short enough for CI; `make chaos` takes as long as it is told."""

import pytest
from tests.chaos.__main__ import rage

KILLS = 50


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_kills() -> None:
    """0 acknowledged samples lost, 0 twice, 0 decisions repeated, every run finite."""
    storm, verdict, _ = rage(seed=0, seconds=0, kills=KILLS)
    assert not verdict.wrong, "\n".join([*verdict.wrong, verdict.kept])
    assert storm.kills == KILLS
    assert verdict.counts["samples acknowledged"] > 1000
