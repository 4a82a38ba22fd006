"""Whatever daemons recorded, simulated trainers' and real ones', a replay gives it again."""

from pathlib import Path

import pytest

from support.recorded import record_all, replayed


@pytest.mark.slow
def test_fifty_recorded_runs_are_byte_identical_when_replayed(folder: Path) -> None:
    checks = [(run.kind, replayed(run)) for run in record_all(folder)]
    assert len(checks) == 50
    assert [(kind, check) for kind, check in checks if check.difference] == []
    assert [(kind, check) for kind, check in checks if check.missing] == []
    made = {kind for _, check in checks for kind in check.outputs}
    assert made == {
        *("signal", "decision", "refusal", "snapshot_proven", "outcome", "search_ended"),
    }
    for kind, check in checks:
        assert check.outputs, f"nothing came of a run of kind {kind}"
