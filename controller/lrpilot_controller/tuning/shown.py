"""What the dashboard shows beside the trials, within bounds: notes, and a run's picture.

Both are attributes of a study, which the dashboard reads whole each time: what is saved costs the
more the more there is.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lrpilot_controller.tuning.notes import MAX_NOTE, NOTES_PER_STUDY, SHADOWS_NOTED

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

PICTURE = "run"
"""The picture's name, of which a study has one."""

_SHADOW = "shadow"


class Picture:
    """A figure that is JSON already; all that the dashboard asks of one."""

    def __init__(self, text: str) -> None:
        self._text = text

    def to_json(self) -> str:
        """The figure."""
        return self._text


def draw(study: "Study", picture: str) -> None:
    """Gives a study its picture, in place of the last one."""
    try:
        from optuna_dashboard import save_plotly_graph_object
    except ImportError:  # the trials are worth having without the dashboard
        return
    save_plotly_graph_object(study, Picture(picture), graph_object_id=PICTURE)


def write(study: "Study", number: int | None, text: str) -> None:
    """Writes the note of a study (None), or of its trial; older trials' notes may go for it."""
    try:
        from optuna_dashboard import save_note
    except ImportError:
        return
    if number is None:
        save_note(study, cut(text))
        return
    trials = study.get_trials(deepcopy=False)
    save_note(live(study, trials[number]), cut(text))
    for old in _too_many(study, trials):
        save_note(live(study, old), "")


def is_written(study: "Study", number: int) -> bool:
    """Whether a trial has a note, or never will."""
    try:
        from optuna_dashboard import get_note
    except ImportError:
        return True
    return bool(get_note(live(study, study.get_trials(deepcopy=False)[number])))


def link_to(page: "Study") -> str:
    """The way to the page that has the picture of the trial's run."""
    return f"**[The picture of the run](/dashboard/studies/{page._study_id})**"


def cut(text: str) -> str:
    """A note within its bound."""
    left_out = "\n\n(The rest is left out here; `lrpilot report` has it.)"
    return text if len(text) <= MAX_NOTE else text[: MAX_NOTE - len(left_out)] + left_out


def live(study: "Study", trial: "FrozenTrial") -> "Trial":
    """What ask() would have returned; notes and attributes need it, and these trials were added."""
    from optuna.trial import Trial

    return Trial(study, trial._trial_id)


def _too_many(study: "Study", trials: "Iterable[FrozenTrial]") -> "list[FrozenTrial]":
    """The trials whose notes must go: a reviewer looks at the newest, and at what was done."""
    attributes = study._storage.get_study_system_attrs(study._study_id)
    noted = [t for t in trials if attributes.get(f"dashboard:{t._trial_id}:note_str:0")]
    shadows = [t for t in noted if t.user_attrs.get("outcome") == _SHADOW]
    gone = shadows[: max(len(shadows) - SHADOWS_NOTED, 0)]
    left = [t for t in noted if t not in gone]
    return gone + left[: max(len(left) - NOTES_PER_STUDY, 0)]
