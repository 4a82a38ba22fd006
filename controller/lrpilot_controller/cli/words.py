"""The words and numbers of the Operator service's messages, as people and scripts read them."""

from typing import Any

from lrpilot_controller.core.plain import to_plain
from lrpilot_controller.server.convert.words import name_of
from lrpilot_proto.v1 import model_pb2, operator_pb2


def run_of(summary: operator_pb2.RunSummary) -> str:
    """`project/name`."""
    return f"{summary.run.project}/{summary.run.name}"


def state_of(summary: operator_pb2.RunSummary) -> str:
    """A run's state."""
    return name_of("RUN_STATE_", model_pb2.RunState, summary.state)


def mode_of(summary: operator_pb2.RunSummary) -> str:
    """A run's mode; empty before its first attempt."""
    return name_of("MODE_", model_pb2.Mode, summary.mode) if summary.mode else ""


def action_of(value: int) -> str:
    """What a decision does."""
    return name_of("ACTION_", model_pb2.Action, value)


def status_of(value: int) -> str:
    """What became of a decision."""
    return name_of("DECISION_STATUS_", model_pb2.DecisionStatus, value)


def number(value: float) -> str:
    """A loss or an LR in few digits."""
    return f"{value:.3g}"


def summary_json(summary: operator_pb2.RunSummary) -> dict[str, Any]:
    """One entry of `runs --json`."""
    return {
        "run": run_of(summary),
        "state": state_of(summary),
        "mode": mode_of(summary) or None,
        "attempts": summary.attempts,
        "step": summary.step,
        "lrs": to_plain(list(summary.lrs)),
    }


def story_json(story: operator_pb2.RunStory) -> dict[str, Any]:
    """The keys of `show RUN --json`, of which the newest; `searching` is how far a search is."""
    telemetry, cost = story.telemetry, story.cost
    return summary_json(story.summary) | {
        "loss": to_plain(story.summary.loss) if story.summary.HasField("loss") else None,
        "telemetry": {"received": telemetry.received, "dropped": telemetry.dropped},
        "signals": [_signal_json(signal) for signal in story.signals],
        "decisions": [_decision_json(told) for told in story.decisions],
        "cost": {
            "probe_steps": cost.probe_steps,
            "rolled_back_steps": cost.rolled_back_steps,
            "wait_seconds": cost.wait_seconds,
        },
        "refusals": [
            {"step": r.step, "signal": r.signal, "reason": r.reason} for r in story.refusals
        ],
        "notices": list(story.notices),
        "commands": [
            {"step": c.step, "kind": c.kind, "who": c.who, "why": c.why} for c in story.commands
        ],
        "search": _search_json(story.search) if story.HasField("search") else None,
        "searching": _progress_json(story.searching) if story.HasField("searching") else None,
    }


def _signal_json(signal: model_pb2.Signal) -> dict[str, Any]:
    return {
        "kind": signal.kind,
        "step": signal.step,
        "since": signal.since,
        "severity": signal.severity,
        "evidence": to_plain(dict(signal.evidence)),
    }


def _decision_json(told: operator_pb2.DecisionStory) -> dict[str, Any]:
    decision, receipt = told.decision, told.receipt
    answered = told.HasField("receipt")
    status = status_of(decision.status)
    return {
        "id": decision.id,
        "status": status,
        "step": decision.step,
        "action": action_of(decision.action),
        "reason": decision.reason,
        "signal": decision.signal.kind or None,
        "lrs_before": to_plain(list(receipt.lrs_before)) if answered else None,
        "lrs_after": to_plain(list(receipt.lrs_after)) if answered else None,
        "applied_step": receipt.applied_step if answered and status == "applied" else None,
        "outcome": _outcome_json(told.outcome) if told.HasField("outcome") else None,
        "who": told.who if told.HasField("who") else None,
        "verdict": told.verdict if told.HasField("verdict") else None,
    }


def _outcome_json(outcome: model_pb2.Outcome) -> dict[str, Any]:
    def loss(name: str) -> Any:
        return to_plain(getattr(outcome, name)) if outcome.HasField(name) else None

    return {
        "verdict": outcome.verdict,
        "gain": to_plain(outcome.gain),
        "steps": outcome.steps,
        "loss_before": loss("loss_before"),
        "loss_after": loss("loss_after"),
    }


def _search_json(search: operator_pb2.SearchStory) -> dict[str, Any]:
    return {
        "end": search.end,
        "lr": to_plain(search.lr),
        "steps": search.steps,
        "reason": search.reason,
        "reference": to_plain(search.reference) if search.HasField("reference") else None,
        "candidates": [
            {"lr": c.lr, "score": to_plain(c.score), "steps": c.steps} for c in search.candidates
        ],
        "sweep": {
            "lrs": to_plain(list(search.sweep.lrs)),
            "losses": to_plain(list(search.sweep.losses)),
        }
        if search.HasField("sweep")
        else None,
    }


def _progress_json(progress: operator_pb2.SearchProgress) -> dict[str, Any]:
    return {"phase": progress.phase, "lr": to_plain(progress.lr), "share": progress.share}
