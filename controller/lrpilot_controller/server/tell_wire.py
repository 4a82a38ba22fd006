"""A run's story as messages of the Operator service."""

from dataclasses import replace

from lrpilot_controller.core.findings import SearchResult
from lrpilot_controller.core.model import Outcome, Receipt
from lrpilot_controller.server import convert
from lrpilot_controller.story import DecisionTold, Progress, Story, Summary
from lrpilot_proto.v1 import model_pb2, operator_pb2


def summary_to(story: Story | Summary) -> operator_pb2.RunSummary:
    """A run in a line."""
    return operator_pb2.RunSummary(
        run=model_pb2.RunName(project=story.run.project, name=story.run.name),
        state=f"RUN_STATE_{story.state.upper()}",
        mode=convert.mode_to(story.mode) if story.mode else None,
        attempts=story.attempts,
        step=story.step,
        lrs=story.lrs,
        loss=story.loss,
    )


def glance_to(story: Story) -> operator_pb2.RunSummary:
    """A summary with a small picture of the loss; of what was left only what is the whole story."""
    kept = [point.loss for point in story.points if not point.left]
    summary = summary_to(story)
    summary.curve.extend(kept or [point.loss for point in story.points])
    return summary


def story_to(story: Story) -> operator_pb2.RunStory:
    """A whole story."""
    return operator_pb2.RunStory(
        summary=summary_to(story),
        telemetry=operator_pb2.TelemetryCount(
            received=story.received,
            dropped=story.dropped,
            thinned=story.thinned.count if story.thinned else 0,
        ),
        signals=[convert.signal_to(signal) for signal in story.signals],
        decisions=[_decision_to(told) for told in story.decisions],
        cost=model_pb2.Cost(
            probe_steps=story.cost.probe_steps,
            rolled_back_steps=story.cost.rolled_back_steps,
            wait_seconds=story.cost.wait_seconds,
        ),
        points=[
            operator_pb2.Point(step=p.step, loss=p.loss, lr=p.lr, left=p.left) for p in story.points
        ],
        notices=[f"step {notice.step}: {notice.text}" for notice in story.notices],
        search=_search_to(story.searches[-1]) if story.searches else None,
        searching=_progress_to(story.progress) if story.progress else None,
        commands=[
            operator_pb2.CommandStory(step=c.step, kind=c.kind, who=c.who, why=c.why)
            for c in story.commands
        ],
        refusals=[
            operator_pb2.RefusalStory(step=r.step, signal=r.signal, reason=r.reason)
            for r in story.refusals
        ],
    )


def _search_to(result: SearchResult) -> operator_pb2.SearchStory:
    sweep = result.sweep
    return operator_pb2.SearchStory(
        end=result.end.value,
        lr=result.lr,
        steps=result.steps,
        reason=result.reason,
        reference=result.reference,
        candidates=[
            operator_pb2.SearchCandidate(lr=tried.lr, score=tried.score, steps=tried.steps)
            for tried in result.candidates
        ],
        sweep=operator_pb2.SearchSweep(lrs=sweep.lrs, losses=sweep.losses) if sweep else None,
    )


def _progress_to(progress: Progress) -> operator_pb2.SearchProgress:
    return operator_pb2.SearchProgress(phase=progress.phase, lr=progress.lr, share=progress.share)


def _decision_to(told: DecisionTold) -> operator_pb2.DecisionStory:
    decision = convert.decision_to(replace(told.decision, status=told.status))
    return operator_pb2.DecisionStory(
        decision=decision,
        receipt=_receipt_to(told.receipt) if told.receipt else None,
        outcome=_outcome_to(told.outcome) if told.outcome else None,
        who=told.who,
        verdict=told.verdict,
    )


def _receipt_to(receipt: Receipt) -> model_pb2.Receipt:
    return model_pb2.Receipt(
        decision_id=receipt.decision_id,
        status=convert.status_to(receipt.status),
        applied_step=receipt.applied_step,
        branch_before=receipt.branch_before,
        branch_after=receipt.branch_after,
        lrs_before=receipt.lrs_before,
        lrs_after=receipt.lrs_after,
        wait_seconds=receipt.wait_seconds,
        detail=receipt.detail,
    )


def _outcome_to(outcome: Outcome) -> model_pb2.Outcome:
    return model_pb2.Outcome(
        decision_id=outcome.decision_id,
        verdict=outcome.verdict,
        gain=outcome.gain,
        steps=outcome.steps,
        loss_before=outcome.loss_before,
        loss_after=outcome.loss_after,
    )
