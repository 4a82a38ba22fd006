"""What a place of trials holds, asked in SQL: Optuna would load every trial whole, and keep it.

The tables are those of the version that `places.of_this_version` has made sure of.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Engine, text

_CHUNK = 1000

_TRIALS = text("""
SELECT studies.study_id, study_name, kind.value_json, trials.trial_id, number, state,
    about.key, about.value_json
FROM studies
JOIN study_user_attributes ours ON ours.study_id = studies.study_id AND ours.key = 'lrpilot'
LEFT JOIN study_user_attributes kind ON kind.study_id = studies.study_id AND kind.key = 'kind'
JOIN trials ON trials.study_id = studies.study_id
LEFT JOIN trial_user_attributes about ON about.trial_id = trials.trial_id
    AND about.key IN ('run', 'attempt', 'decision_id', 'search')
ORDER BY studies.study_id, number
""")


_STUDIES = text("""
SELECT studies.study_id, study_name, about.key, about.value_json
FROM studies
JOIN study_user_attributes ours ON ours.study_id = studies.study_id AND ours.key = 'lrpilot'
JOIN study_user_attributes about ON about.study_id = studies.study_id
ORDER BY studies.study_id
""")


class Known(NamedTuple):
    """A study of ours and its user attributes."""

    id: int
    name: str
    attributes: Mapping[str, Any]


class Held(NamedTuple):
    """A trial of ours: where it is, whether it has ended, and whose it is; ids grow with time."""

    id: int
    study: str
    kind: str | None
    number: int
    finished: bool
    attributes: Mapping[str, Any]


def studies_in(engine: Engine) -> list[Known]:
    """Our studies, the oldest first. Optuna would read the notes and pictures of all as well."""
    with engine.connect() as connection:
        rows = connection.execute(_STUDIES).all()
    return [
        Known(id_, name, {row[2]: json.loads(row[3]) for row in its})
        for (id_, name), its in groupby(rows, key=lambda row: tuple(row[:2]))
    ]


def trials_in(engine: Engine) -> Iterator[Held]:
    """Every trial of our studies, study by study, the oldest first."""
    with engine.connect() as connection:
        rows = connection.execution_options(yield_per=_CHUNK).execute(_TRIALS)
        for (_, study, kind, id_, number, state), its in groupby(
            rows, key=lambda row: tuple(row[:6])
        ):
            yield Held(
                id=id_,
                study=study,
                kind=None if kind is None else json.loads(kind),
                number=number,
                finished=state not in ("RUNNING", "WAITING"),
                attributes={row[6]: json.loads(row[7]) for row in its if row[6] is not None},
            )
