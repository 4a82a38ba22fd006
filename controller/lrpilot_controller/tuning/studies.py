"""The studies: their names, and how one is found and begun."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lrpilot_controller.tuning.entries import Home

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study

TRIALS_PER_STUDY = 500

FORGOTTEN = "forgotten"
"""The user attribute of a study that counts no more: since when, in unix seconds."""

_OURS = "lrpilot"  # the user attribute that tells our studies from others in the same place


def runs_study(project: str) -> str:
    """The study of what the runs of a project found."""
    return f"{project}/runs"


def part_of(name: str, part: int) -> str:
    """The name of a study's part: itself, then `name/2`, `name/3`..."""
    return name if part == 1 else f"{name}/{part}"


def kind_of(attributes: Mapping[str, object]) -> str:
    """The kind of study that has these user attributes; the first ones did not say it."""
    return str(attributes.get("kind", "interventions"))


def is_forgotten(attributes: Mapping[str, object]) -> bool:
    """Whether a person wanted the study with these user attributes to count no more."""
    return FORGOTTEN in attributes


def has_room(study: "Study") -> bool:
    """Whether one more trial belongs into this part."""
    few = len(study.get_trials(deepcopy=False)) < TRIALS_PER_STUDY
    return few and not is_forgotten(study.user_attrs)


def open_study(storage: "BaseStorage", home: Home) -> "Study":
    """The part of this study that has room for one more trial; made where there is none."""
    part = max(1, last_part(storage, home.name))
    study = create_part(storage, home, part)
    if has_room(study):
        return study
    return create_part(storage, home, part + 1)


def create_part(storage: "BaseStorage", home: Home, part: int) -> "Study":
    """A part of this study; made where there is none."""
    import optuna

    # Naming the metric is experimental in Optuna; a reader of the plots needs the name.
    warnings.filterwarnings(
        "ignore", ".*set_metric_names", category=optuna.exceptions.ExperimentalWarning
    )
    study = optuna.create_study(
        study_name=part_of(home.name, part),
        storage=storage,
        sampler=optuna.samplers.RandomSampler(),
        direction="maximize" if home.maximize else "minimize",
        load_if_exists=True,
    )
    if _OURS not in study.user_attrs:
        _describe(study, home)
    return study


def last_part(storage: "BaseStorage", name: str, known: int = 1) -> int:
    """The number of a study's newest part; 0 where there is none. Asks for few of many.

    Args:
        storage: Where it is.
        name: Of the study.
        known: A part that is there, if there is any.
    """

    def there(part: int) -> bool:
        try:
            storage.get_study_id_from_name(part_of(name, part))
        except KeyError:
            return False
        return True

    if not there(known):
        return last_part(storage, name) if known > 1 else 0
    low, high = known, known + 1  # the first is there, the second is not
    while there(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if there(middle) else (low, middle)
    return low


def _describe(study: "Study", home: Home) -> None:
    study.set_metric_names([home.metric])
    try:
        from optuna_dashboard import save_note
    except ImportError:  # the trials are worth having without the dashboard
        pass
    else:
        save_note(study, home.note)
    for key, value in {"kind": home.kind, **home.about}.items():
        study.set_user_attr(key, value)
    study.set_user_attr(_OURS, 1)  # last: a study that was half made is described again
