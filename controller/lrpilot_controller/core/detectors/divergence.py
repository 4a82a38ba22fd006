"""Divergence: the loss has risen above the best it had reached, and it is not coming back.

A one-sided cumulative sum in the manner of Page ("Continuous inspection schemes", Biometrika 1954)
and Hinkley ("Inference about the change-point from cumulative sum tests", Biometrika 1971), with
three changes. What it sums is the rise over the best level in the units of `LossLevel`, which makes
it free of scale and offset. A report counts at most one, so that a few huge ones prove little by
themselves. And what ebbs away proves nothing: while the level is coming down from a crest, nothing
is added, which is what tells a spike that recovers from a divergence that stays. An explosion in
the first steps, before any noise is known, is judged by `Aftermath` once the run has settled.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lrpilot_controller.core.detectors.aftermath import Aftermath
from lrpilot_controller.core.detectors.base import NO_SIGNALS, SlotState
from lrpilot_controller.core.detectors.level import CLIP, LIMIT, LossLevel
from lrpilot_controller.core.model import Signal, SignalKind

SLACK: Final = 0.15
"""Units (of the range, or of ten noise sd) that count as no rise. Cyclic rates, epochs and the
noise floor of a higher rate lift a healthy loss by about a tenth of what it has gained."""

GAIN: Final = 2.0
"""Evidence per unit of rise over the slack: two thirds of the range count in full."""

ENOUGH: Final = 30.0
"""Reports of full weight that make an alarm: longer than a warm-up's bump keeps rising."""

EXPLOSION: Final = CLIP
"""Units from which on a report is explosive: ten times all that the run had gained."""

EXPLOSIVE_REPORTS: Final = 4
"""So many explosive reports make an alarm by themselves; with the median of three in front, that is
at least four bad losses of six."""

EBBED: Final = 0.02
"""Share of a crest that must be gone, beside the noise, for the level to count as coming down."""

LR_CHANGE: Final = 0.1
"""A cut of the learning rate by more than this, at once, opens a new episode. A schedule's decay
must not: it would wipe out the evidence of a run that blows up while it decays."""


class DivergenceDetector(SlotState):
    """Raises one alarm per episode when the loss has risen and stays up.

    After an alarm the next one needs the level to have come back to the best one, or the learning
    rate to have been cut by more than a tenth: evidence from a higher rate says nothing about the
    new one, and if the loss stays up all the same, that deserves an alarm of its own. The level,
    the best level and the noise are kept. A raise restarts nothing: a warm-up is made of raises.

    Non-finite losses are another detector's business and change nothing here.
    """

    name = "divergence"
    __slots__ = (
        "_aftermath",
        "_armed",
        "_evidence",
        "_lr",
        "_reports",
        "_since",
        "_stats",
        "_watching",
    )
    _state = ("stats", "aftermath", "armed", "evidence", "since", "reports", "lr")

    def __init__(self) -> None:
        self._stats = LossLevel()
        self._aftermath = Aftermath()
        self._watching = True  # it may still have something to say
        self._armed = True
        self._evidence = 0.0
        self._since = 0  # step at which the evidence last left zero
        self._reports = 0  # reports since then
        self._lr: float | None = None  # as last reported

    @property
    def level(self) -> float | None:
        """The smoothed current loss; None until known, as are the next three."""
        return self._stats.level

    @property
    def best(self) -> float | None:
        """The best smoothed level of the run."""
        return self._stats.best

    @property
    def start(self) -> float | None:
        """The initial level."""
        return self._stats.start

    @property
    def noise(self) -> float | None:
        """Standard deviation of one loss around its trend."""
        return self._stats.noise

    @property
    def healthy(self) -> bool:
        """Whether the level is within the best one plus .15 of the range (or 1.5 noise sd)."""
        return self._stats.rise <= SLACK

    @property
    def watching(self) -> bool:
        """Whether the run's first steps are still being judged."""
        return self._watching

    @property
    def gained(self) -> bool:
        """Whether the slow level is not above the start; True until known."""
        return self._stats.gained

    def update(
        self, step: int, train_loss: float | None, val_loss: float | None, lr: float | None
    ) -> Sequence[Signal]:
        """Takes one report; see `Detector.update`."""
        if lr != self._lr and lr is not None:
            self._see_rate(lr)
        if train_loss is None:
            return NO_SIGNALS
        if not -LIMIT < train_loss < LIMIT and train_loss - train_loss != 0.0:
            return NO_SIGNALS  # NaN or infinite
        stats = self._stats
        rise = stats.add(train_loss)
        if self._watching and self._settled_in_vain(step, train_loss) and self._armed:
            self._since = self._aftermath.since
            self._reports = stats.count
            self._evidence = 0.0
            self._armed = False
            return (self._alarm(step),)
        evidence = self._evidence
        if rise <= SLACK and evidence == 0.0 and self._armed:
            return NO_SIGNALS  # the healthy case, kept short
        if not self._armed:
            self._armed = rise <= SLACK
            return NO_SIGNALS
        if evidence == 0.0:
            self._since = step
            self._reports = 0
        self._reports += 1
        if rise > EXPLOSION:
            evidence += ENOUGH / EXPLOSIVE_REPORTS
        elif rise <= SLACK:
            evidence = max(0.0, evidence + GAIN * max(rise - SLACK, -1.0))
        elif not self._stats.ebbing(EBBED):
            evidence += min(1.0, GAIN * (rise - SLACK))
        if evidence < ENOUGH:
            self._evidence = evidence
            return NO_SIGNALS
        self._evidence = 0.0
        self._armed = False
        return (self._alarm(step),)

    def _settled_in_vain(self, step: int, loss: float) -> bool:
        """Whether this report ends the proof that the run exploded and has learnt nothing."""
        stats = self._stats
        if stats.start is None or stats.level is None:
            return False
        loss = min(max(loss, -LIMIT), LIMIT)
        found = self._aftermath.add(step, loss, stats.level, stats.start)
        self._watching = not self._aftermath.over
        return found

    def _see_rate(self, lr: float) -> None:
        """A clear cut from one report to the next opens a new episode; a decay opens none."""
        if not 0.0 <= lr < LIMIT:
            return  # not a rate
        last, self._lr = self._lr, lr
        if last is not None and lr < (1 - LR_CHANGE) * last:
            self._armed = True
            self._evidence = 0.0
            if self._watching:
                self._aftermath = Aftermath()  # of what this rate does from here on

    def _alarm(self, step: int) -> Signal:
        stats = self._stats
        rise = min(max(0.0, stats.rise), LIMIT)  # a unit near zero makes it infinite
        evidence = {
            "rise": rise,
            "reports": float(self._reports),
            "level": stats.level or 0.0,
            "best": stats.best or 0.0,
            "start": stats.start or 0.0,
            "noise": stats.noise or 0.0,
            "unit": stats.unit or 0.0,
        }
        return Signal(SignalKind.DIVERGENCE, step, self._since, rise / (1.0 + rise), evidence)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to a state that `state_dict` gave.

        Raises:
            ValueError: The state is not one of this class.
        """
        super().load_state_dict(state)
        self._watching = not self._aftermath.over
