"""What must hold of a run's journal whatever went wrong, beside what its trainer knows of it."""

import math
from collections import Counter
from typing import Any

from lrpilot.pilot import Pilot
from lrpilot_controller.core.model import DecisionStatus
from support.daemon import Daemon

# While the daemon is away a decision may grow too old, or its program's fallback may be followed;
# it is then judged anew.
ANSWERS = {DecisionStatus.APPLIED, DecisionStatus.EXPIRED, DecisionStatus.STALE}


def violations(
    daemon: Daemon, run: str, *, steps: int, reached: list[int], loss: float
) -> list[str]:
    """What is wrong with a run that ended with a daemon there and said goodbye; nothing if whole.

    Args:
        daemon: whose journal is asked.
        run: its name.
        steps: that its trainer made; it reported the loss of each, and nothing else.
        reached: the ids of the decisions that reached the trainer, in order.
        loss: the model's, at the end.
    """
    found: dict[str, Any] = {}
    story = daemon.story(run)
    if story["state"] not in ("finished", "stopped"):
        found["state"] = story["state"]
    if story["attempts"] != 1:
        found["attempts"] = story["attempts"]
    if story["step"] != steps or story["telemetry"] != {"received": steps, "dropped": 0}:
        found["telemetry"] = (story["step"], story["telemetry"], f"{steps} steps were made")
    counted = Counter(daemon.seqs(run))
    if lost := sorted(set(range(1, steps + 1)) - set(counted)):
        found["samples lost"] = lost
    if twice := sorted(seq for seq, count in counted.items() if count > 1):
        found["samples twice"] = twice
    decided = daemon.decided(run)
    if decided != sorted(set(decided)):
        found["decisions repeated"] = decided
    if reached != decided:
        found["decisions that did not reach the trainer once"] = (decided, reached)
    receipts = [event.receipt for event in daemon.receipts(run)]
    if Counter(receipt.decision_id for receipt in receipts) != Counter(decided):
        found["receipts"] = (decided, [receipt.decision_id for receipt in receipts])
    if odd := {receipt.status for receipt in receipts} - ANSWERS:
        found["answers"] = odd
    branches = [r.branch_after for r in receipts if r.branch_after != r.branch_before]
    if branches != sorted(set(branches)):
        found["branches"] = branches
    if story["state"] == "finished" and not math.isfinite(loss):
        found["loss"] = loss
    return [f"{run}: {what}: {value}" for what, value in found.items()] + complaints(daemon)


def complaints(daemon: Daemon) -> list[str]:
    """What a daemon never logs unless something is broken."""
    bad = ("Traceback", "replay differs", "never retrieved", "was destroyed")
    return [line for line in daemon.log.splitlines() if any(words in line for words in bad)]


def check_run(daemon: Daemon, run: str, pilot: Pilot, loss: float) -> None:
    """Fail where something is wrong with a run of this process."""
    reached = [decision.id for decision in pilot.decisions]
    wrong = violations(daemon, run, steps=pilot.step_count, reached=reached, loss=loss)
    assert not wrong, "\n".join(wrong)
