"""What searches found and tried, as trials: one per run that goes on with it, one per LR tried."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from lrpilot_controller.core.findings import Reach
from lrpilot_controller.core.plans import Plan
from lrpilot_controller.core.probation import DECAY
from lrpilot_controller.core.search.horizon import SHORTEST
from lrpilot_controller.core.search.ladder import MOST
from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.journal.base import Journal, RunKey
from lrpilot_controller.tuning.entries import Entry, Home, Param, State, plain, thinned
from lrpilot_controller.tuning.found import Found, Tried, read_searches
from lrpilot_controller.tuning.notes import probes_note, run_note, runs_note
from lrpilot_controller.tuning.studies import runs_study
from lrpilot_controller.version import VERSION

RUNS, PROBES = "runs", "probes"
NATIVE = "native"
"""How a run ended to search that never did: it goes on at its own LR."""
POINTS = 20


def search_entries(journal: Journal, run: RunKey, now: float) -> Iterator[Entry]:
    """The trials of a run's searches, in order.

    Args:
        journal: Where they are recorded; telemetry is read when an entry is measured.
        run: Whose searches.
        now: Wall clock in unix seconds, to tell an abandoned run.

    Raises:
        JournalError: The journal cannot be read.
    """
    searches = read_searches(journal, run, now)
    for found in searches.found:
        yield _run_entry(journal, run, found)
    for tried in searches.tried:
        yield _probe_entry(run, tried)


def _run_entry(journal: Journal, run: RunKey, found: Found) -> Entry:
    attempt, result = found.attempt, found.result
    about = {
        "run": str(run),
        "attempt": attempt.id,
        "search": found.number,
        "job": attempt.job,
        "optimizer": attempt.optimizer,
        "total_steps": attempt.total_steps,
        "base_lr": attempt.groups[0].base_lr,
        "scheduled": attempt.scheduled,
        "prior": found.prior,
        "end": result.end.value if result else NATIVE,
        "reason": result.reason if result else None,
        "steps": result.steps if result else None,
        "reference": result.reference if result else None,
        "plan": _plan(found.plan) if found.plan else None,
        "progress": told(result.progress) if result and result.progress else None,
        "version": VERSION,
        "client_version": attempt.client_version,
        "outcome": found.end or "running",
    }
    return Entry(
        home=Home(
            RUNS, runs_study(run.project), "final loss", False,
            {"project": run.project}, runs_note(run.project),
        ),
        identity=(RUNS, str(run), attempt.id, found.number),
        state=State.FAIL if found.end else State.RUNNING,
        value=None,
        params={"lr": Param.of_lr(found.lr)} if found.lr > 0 else {},
        attributes={key: plain(value) for key, value in about.items() if value is not None},
        curve=dict,
        started=found.at,
        ended=found.ended_at,
        note=lambda: run_note(run, result) if result else "",
        page=probes_home(run),
        measured=partial(_measured, journal, run, found),
    )  # fmt: skip


def told(progress: Reach) -> list[float]:
    """How far a program came, as a trial's attribute: what `progress_of` reads."""
    end = () if progress.end is None else (progress.end,)
    return [progress.lr, progress.steps, progress.at_once, progress.halfway, *end]


def progress_of(attribute: object) -> Reach | None:
    """What `told` told; None where this is no such thing."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        lr, steps, *falls = (float(one) for one in attribute)  # type: ignore[attr-defined]
        finite = all(math.isfinite(one) for one in (lr, *falls))
        if finite and lr > 0 and SHORTEST <= steps <= MOST and 2 <= len(falls) <= 3:
            return Reach(lr, int(steps), *falls)
    return None


def _plan(plan: Plan) -> str:
    """A plan in a line: what of the LR, then each segment with the steps that it begins at."""
    parts = [
        f"{s.shape.value} {s.start_value:.4g} to {s.end_value:.4g} from step {s.start}"
        for s in plan.segments
    ]
    return f"{plan.kind.value}: {', '.join(parts)}"


def _measured(journal: Journal, run: RunKey, found: Found, entry: Entry) -> Entry:
    """With the final loss, where the run came to its end."""
    if found.end != "finished":
        return entry
    losses = _losses(journal, run, found)
    value = losses.final
    if not math.isfinite(value):
        return replace(entry, attributes={**entry.attributes, "outcome": "non_finite"})
    finite = {step: loss for step, loss in losses.validation.items() if math.isfinite(loss)}
    return replace(
        entry,
        state=State.COMPLETE,
        value=value,
        attributes={**entry.attributes, "measure": losses.measure},
        curve=lambda: thinned(finite, POINTS),
    )


@dataclass(slots=True)
class _Losses:
    """Of a run since its LR was found: every validation, and the smoothed train loss."""

    validation: dict[int, float]
    train: float = math.nan

    @property
    def measure(self) -> str:
        return "validation" if self.validation else "train"

    @property
    def final(self) -> float:
        return list(self.validation.values())[-1] if self.validation else self.train


def _losses(journal: Journal, run: RunKey, found: Found) -> _Losses:
    losses = _Losses({})
    for record in journal.records(run, after=found.n, kinds=[Samples, Thinned]):
        event = record.event
        if record.n > found.ended_n:
            break
        if not isinstance(event, Samples | Thinned) or event.attempt not in found.heirs:
            continue
        rows = event if isinstance(event, Samples) else event.rows
        for i, (loss, count) in enumerate(zip(rows.loss, _counts(event), strict=True)):
            if rows.program[i]:
                continue
            if rows.validation[i]:
                losses.validation[rows.step[i]] = loss
            elif math.isfinite(losses.train):
                kept = DECAY**count
                losses.train = kept * losses.train + (1 - kept) * loss
            else:  # one bad loss on the way changes nothing for good
                losses.train = loss
    return losses


def _counts(event: Samples | Thinned) -> list[int]:
    """For how many losses each row stands: for itself, and for those thinned right before it."""
    if isinstance(event, Samples):
        return [1] * len(event.loss)
    before = (event.first_seq - 1, *event.seq)
    return [number - last for number, last in zip(event.seq, before, strict=False)]


def probes_home(run: RunKey) -> Home:
    """The run's own study."""
    return Home(
        PROBES, f"{run.project}/{PROBES}/{run.name}", "score", False,
        {"project": run.project, "run": str(run)}, probes_note(run),
    )  # fmt: skip


def _probe_entry(run: RunKey, tried: Tried) -> Entry:
    interrupted = tried.stop_reason == "interrupted" and tried.candidate is None
    outcome = "interrupted" if interrupted else "diverged" if tried.diverged else "scored"
    about = {
        "run": str(run),
        "attempt": tried.attempt.id,
        "decision_id": tried.number,
        "programs": list(tried.programs),
        "steps": len(tried.losses),
        "stop_reason": tried.stop_reason,
        "outcome": outcome,
        "diverged": True if outcome == "diverged" else None,
    }
    curve = {step: loss for step, loss in enumerate(tried.losses) if math.isfinite(loss)}
    return Entry(
        home=probes_home(run),
        identity=(PROBES, str(run), tried.attempt.id, tried.number),
        state=State.COMPLETE if outcome == "scored" else State.FAIL,
        value=tried.score if outcome == "scored" else None,
        params={"lr": Param.of_lr(tried.lr)} if tried.lr > 0 else {},
        attributes={key: plain(value) for key, value in about.items() if value is not None},
        curve=lambda: thinned(curve, POINTS),
        started=tried.started,
        ended=tried.ended,
    )  # fmt: skip
