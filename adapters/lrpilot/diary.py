"""What LRPilot does, in the experiment logger that the user has: LRs, signals, decisions.

Off unless asked for. It is the user's logger, called in the training thread as the user would:
what it raises is said once, and ends the diary, never the run.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrpilot.decisions import AppliedDecision
from lrpilot_proto.v1 import model_pb2

log = logging.getLogger("lrpilot")

# Steps between two looks at the LR: a curve on a screen has no more points.
EVERY = 50
REMEMBERED = 20

Metrics = Mapping[str, float]
# Metrics, the step that they are of, and words that go with them, empty where there are none.
Write = Callable[[Metrics, int, str], None]


@dataclass(frozen=True)
class Target:
    """Where to write, and how many steps lie between two LRs."""

    write: Write
    every: int = EVERY


def target_of(logger: Any) -> Target:
    """How a logger wants to be told.

    Args:
        logger: a TensorBoard `SummaryWriter`; a run of W&B, or its module; the module of MLflow,
            a logger of Lightning, and what else has `log_metrics(metrics, step=...)`; or a function
            `log(metrics, step)`.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(logger, Target):
        return logger
    made = not isinstance(logger, type)
    if made and callable(getattr(logger, "add_scalar", None)):
        return Target(lambda metrics, step, words: _summary(logger, metrics, step, words))
    if made and callable(getattr(logger, "log_metrics", None)):
        return Target(lambda metrics, step, _: logger.log_metrics(dict(metrics), step=step))
    if made and callable(getattr(logger, "log", None)):
        return Target(lambda metrics, step, words: _history(logger, metrics, step, words))
    if made and callable(logger):
        return Target(lambda metrics, step, _: logger(dict(metrics), step))
    raise TypeError(
        f"logger={logger!r}: a SummaryWriter, a run of W&B, the module mlflow, a logger of "
        "Lightning, or a function log(metrics, step); True in a callback alone"
    )


def _summary(writer: Any, metrics: Metrics, step: int, words: str) -> None:
    for name, value in metrics.items():
        writer.add_scalar(name, value, step)
    if words:
        writer.add_text("lrpilot/decision", words, step)


def _history(run: Any, metrics: Metrics, step: int, words: str) -> None:
    """W&B refuses a step below its own count, which is the user's to move: so this names the step
    beside the metrics, and goes along with what the user logs next."""
    more = {"lrpilot/decision": words} if words else {}
    run.log({**metrics, **more, "lrpilot/step": step}, commit=False)


class Diary:
    """Writes down what happens to one run.

    Args:
        target: where to.
        groups: the names of the param groups.
        signals: what the daemon saw; emptied as it is written down.
    """

    def __init__(
        self, target: Target, groups: Sequence[str], signals: "deque[model_pb2.Signal]"
    ) -> None:
        self._target = target
        self._signals = signals
        # In advise a decision follows long after its signal was told, and tells it again.
        self._seen: deque[tuple[str, int]] = deque(maxlen=REMEMBERED)
        several = len(groups) > 1
        self._names = [f"lrpilot/lr/{one}" if several else "lrpilot/lr" for one in groups]
        self._next = 0
        self._decided = self._rollbacks = 0
        self._over = False

    def stepped(self, step: int, lrs: Sequence[float]) -> None:
        """A step was made at these LRs; one in some tens is written down, and what was seen."""
        while self._signals:
            signal = self._signals.popleft()
            self._seen.append((signal.kind, signal.step))
            self._write({f"lrpilot/signal/{signal.kind}": signal.severity}, signal.step)
        if step >= self._next:
            self._next = step + max(self._target.every, 1)
            self._write(dict(zip(self._names, lrs, strict=False)), step)

    def answered(self, told: AppliedDecision) -> None:
        """A decision reached the trainer; one that was not followed is no news here."""
        if told.status != "applied":
            return
        self._decided += 1
        self._rollbacks += told.action == "rollback"
        metrics: dict[str, float] = {
            "lrpilot/decisions": self._decided,
            "lrpilot/rollbacks": self._rollbacks,
        }
        if told.signal and (told.signal, told.signal_step) not in self._seen:
            metrics[f"lrpilot/signal/{told.signal}"] = told.severity
        words = f"{told.id}. {told.action}: {told.reason}"
        self._write(metrics, told.applied_step, words)
        self._next = min(self._next, told.applied_step)  # the LR that follows from it

    def _write(self, metrics: dict[str, float], step: int, words: str = "") -> None:
        if self._over:
            return
        try:
            self._target.write({k: v for k, v in metrics.items() if math.isfinite(v)}, step, words)
        except Exception as error:
            self._over = True
            log.warning(
                "LRPilot: the logger raised %r: nothing more is logged, training goes on", error
            )
