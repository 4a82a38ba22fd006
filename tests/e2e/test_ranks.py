"""Ranks as real processes, late in turns, under a real daemon that is killed meanwhile."""

from typing import Any

import pytest
import torch
import torch.distributed.fsdp

from lrpilot_controller.core.events import ProgramEnded, SearchEnded
from lrpilot_controller.core.telemetry import Samples
from support.daemon import Daemon, script, until
from support.scripts import lightning_ranks, ranks


def train(
    daemon: Daemon, world: int, *stops: int, loss_of: str = "rank0", how: str = "ddp"
) -> list[dict[str, Any]]:
    """What each rank tells after a run in which the daemon was killed at these steps."""
    daemon.start()
    arguments = (daemon.address, "run", daemon.folder, str(world), loss_of, how, *map(str, stops))
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


def check_alike(told: list[dict[str, Any]], steps: int) -> None:
    """The same LR at every step, the same decisions, and the same weights to the last bit."""
    first, *others = told
    assert len(first["lrs"]) == steps
    for one in others:
        assert one["lrs"] == first["lrs"]
        assert one["decisions"] == first["decisions"]
        assert all(map(torch.equal, one["weights"], first["weights"]))
    assert all(weight.isfinite().all() for weight in first["weights"])


def check_rescued(daemon: Daemon, told: list[dict[str, Any]], steps: int, spoiled: int) -> None:
    """The weights that were lost came back, at the same step everywhere."""
    back = [d for d in told[0]["decisions"] if d.action == "rollback" and d.status == "applied"]
    assert back
    assert spoiled < back[0].applied_step < spoiled + 80
    story = daemon.story("run")
    assert story["mode"] == "auto"
    assert story["state"] == "finished"
    assert story["telemetry"] == {"received": steps, "dropped": 0}
    seqs = daemon.seqs("run")
    assert seqs == list(range(1, len(seqs) + 1))
    applied = {r.receipt.decision_id for r in daemon.receipts("run")}
    assert applied == set(daemon.decided("run"))


def check_losses(daemon: Daemon, losses: list[float]) -> None:
    """These are what the daemon was told, and the validations of rank 0 in their places."""
    told = [record.event for record in daemon.records("run", Samples)]
    items = [item for one in told for item in zip(one.validation, one.step, one.loss, strict=True)]
    assert [loss for validation, _, loss in items if not validation] == pytest.approx(
        losses, nan_ok=True
    )
    validations = [(step, loss) for validation, step, loss in items if validation]
    assert validations == [(k + 1, k) for k in range(0, len(losses), 50)]
    places = [i for i, (validation, _, _) in enumerate(items) if validation]
    assert places == [50 * i + 1 + i for i in range(len(places))]


def check_searched(daemon: Daemon) -> None:
    """A search ran to its end."""
    (ended,) = (record.event for record in daemon.records("run", SearchEnded))
    assert ended.result.end.value == "found"
    assert len(daemon.records("run", ProgramEnded)) > 3


def test_ranks_do_the_same_through_a_search_a_daemon_kill_and_a_rollback(daemon: Daemon) -> None:
    told = train(daemon, 2, 230)
    check_alike(told, ranks.STEPS)
    check_losses(daemon, told[0]["losses"])
    check_rescued(daemon, told, ranks.STEPS, ranks.SPOILED)
    check_searched(daemon)


@pytest.mark.slow
def test_four_ranks_do_the_same_through_a_daemon_kill_amid_a_search(daemon: Daemon) -> None:
    told = train(daemon, 4, 20, 200, loss_of="mean")
    check_alike(told, ranks.STEPS)
    means = [sum(losses) / 4 for losses in zip(*(one["losses"] for one in told), strict=True)]
    check_losses(daemon, means)
    check_rescued(daemon, told, ranks.STEPS, ranks.SPOILED)


@pytest.mark.skipif(
    not hasattr(torch.distributed.fsdp, "fully_shard"), reason="this torch has no FSDP2"
)
@pytest.mark.slow
def test_ranks_that_hold_parts_of_the_weights_do_the_same(daemon: Daemon) -> None:
    told = train(daemon, 2, how="fsdp")
    check_alike(told, ranks.STEPS)
    check_rescued(daemon, told, ranks.STEPS, ranks.SPOILED)
    check_searched(daemon)


@pytest.mark.slow
def test_ranks_of_lightning_do_the_same_through_a_search_and_a_rollback(daemon: Daemon) -> None:
    daemon.start()
    trainer = script("lightning_ranks.py", daemon.address, "run", daemon.folder)
    try:
        assert trainer.wait(timeout=200) == 0
    finally:
        trainer.kill()
    told = [torch.load(daemon.folder / f"{rank}.pt", weights_only=False) for rank in range(2)]
    check_alike(told, lightning_ranks.STEPS)
    check_rescued(daemon, told, lightning_ranks.STEPS, lightning_ranks.SPOILED)
    check_searched(daemon)
    assert (daemon.folder / "looked.pt").exists()
