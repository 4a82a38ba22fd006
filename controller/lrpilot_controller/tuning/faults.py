"""What is wrong with the trials, in one line for a person."""

from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.tuning.places import Place


def words_of(error: Exception, place: Place) -> str:
    """A fault in one line; Optuna wraps what is wrong, and SQLAlchemy adds lines to it."""
    if isinstance(error, LRPilotError):
        return str(error)
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    if (told := place.explain(root)) is not None:
        return told
    words = (str(root).splitlines() or [""])[0]
    advice = "; pip install 'lrpilot[controller]'" if isinstance(error, ImportError) else ""
    return f"{type(root).__name__}: {words}{advice}"
