"""Ranks as real processes, late in turns, under a real daemon that is killed meanwhile."""

from typing import Any

import pytest
import torch

from lrpilot_controller.core.events import ProgramEnded, SearchEnded
from support.daemon import Daemon, script, until
from support.scripts.ranks import SPOILED, STEPS


def trained(daemon: Daemon, world: int, *stops: int) -> list[dict[str, Any]]:
    """What each rank tells after a run in which the daemon was killed at these steps."""
    daemon.start()
    arguments = (daemon.address, "run", daemon.folder, str(world), *map(str, stops))
    trainer = script("ranks.py", *arguments)
    try:
        for step in stops:
            at = daemon.folder / f"at-{step}"
            until(lambda at=at: at.exists() or trainer.poll() is not None, 120)  # type: ignore[misc]
            daemon.kill()
            daemon.start()
            (daemon.folder / f"on-{step}").touch()
        assert trainer.wait(timeout=150) == 0
    finally:
        trainer.kill()
    return [torch.load(daemon.folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def check_alike(ranks: list[dict[str, Any]]) -> None:
    """The same LR at every step, the same decisions, and the same weights to the last bit."""
    first, *others = ranks
    assert len(first["lrs"]) == STEPS
    for one in others:
        assert one["lrs"] == first["lrs"]
        assert one["decisions"] == first["decisions"]
        assert all(map(torch.equal, one["weights"], first["weights"]))
    assert all(weight.isfinite().all() for weight in first["weights"])


def check_rescued(daemon: Daemon, ranks: list[dict[str, Any]]) -> None:
    """The weights that were lost came back, at the same step everywhere."""
    back = [d for d in ranks[0]["decisions"] if d.action == "rollback" and d.status == "applied"]
    assert back
    assert SPOILED < back[0].applied_step < SPOILED + 80
    story = daemon.story("run")
    assert story["mode"] == "auto"
    assert story["state"] == "finished"
    assert story["telemetry"] == {"received": STEPS, "dropped": 0}
    applied = {r.receipt.decision_id for r in daemon.receipts("run")}
    assert applied == set(daemon.decided("run"))


def test_ranks_do_the_same_through_a_search_a_daemon_kill_and_a_rollback(daemon: Daemon) -> None:
    ranks = trained(daemon, 2, 230)
    check_alike(ranks)
    check_rescued(daemon, ranks)
    (ended,) = (record.event for record in daemon.records("run", SearchEnded))
    assert ended.result.end.value == "found"
    assert ranks[0]["summary"].programs == len(daemon.records("run", ProgramEnded)) > 3


@pytest.mark.slow
def test_four_ranks_do_the_same_through_a_daemon_kill_amid_a_search(daemon: Daemon) -> None:
    ranks = trained(daemon, 4, 20, 200)
    check_alike(ranks)
    check_rescued(daemon, ranks)
