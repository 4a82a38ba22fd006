"""The trials as they are written now, for whoever only reads them."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning import studies
from lrpilot_controller.tuning.places import place_of

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

# Whoever asks does not wait longer than this by far.
_LOCK_S = 0.1
_MOST_READ = 40  # parts that are held at once, of half a thousand trials each

PARTS = 2
"""A study that has just rolled over knows little by itself: the one before it is read as well."""


@dataclass(frozen=True, slots=True)
class Part:
    """A study, or a part of one that rolled over: its trials, oldest first, and its attributes."""

    trials: "Sequence[FrozenTrial]"
    attributes: Mapping[str, Any]


class TrialReader:
    """The trials, open to read. For one thread.

    Args:
        storage: A storage, or its directory.
    """

    def __init__(self, storage: Storage | Path) -> None:
        self.place = place_of(storage)
        self._storage: BaseStorage | None = None
        self._closing = ExitStack()
        self._read: set[str] = set()
        self._last: dict[str, int] = {}
        self._identity: int | None = None

    @property
    def ready(self) -> bool:
        """Whether they are open as they are now, or there are none. For any thread."""
        known = self._storage is not None or self._identity is None
        return known and not self.place.moved(self._identity)

    def open(self) -> "BaseStorage | None":
        """The trials as they are now; None where there are none yet."""
        identity = self.place.identity()
        if identity is None:
            self.close()
        elif self._storage is None or identity != self._identity:
            import optuna

            self.close()
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            opened = self.place.open_to_read(_LOCK_S)
            self._closing.callback(opened.engine.dispose)
            self._closing.callback(opened.remove_session)
            self._storage = optuna.storages.get_storage(opened)
        self._identity = identity
        return self._storage

    def close(self) -> None:
        """Lets go of them; they are opened again when needed."""
        self._storage = None
        self._read.clear()
        self._closing.close()

    def newest(self, study: str, parts: int = PARTS) -> list[Part]:
        """This study and those that it rolled over to, oldest first; what is forgotten is left out.

        Args:
            study: The name of the first one.
            parts: So many of them, the newest.
        """
        storage = self.open()
        if storage is None:
            return []
        last = self._last[study] = studies.last_part(storage, study, self._last.get(study) or 1)
        names = [studies.part_of(study, part) for part in range(max(1, last - parts + 1), last + 1)]
        self._read.update(names)
        if len(self._read) > _MOST_READ:
            # Optuna keeps each trial that it has read for as long as the place is open.
            self.close()
            self._read.update(names)
            if (storage := self.open()) is None:
                return []
        found = [storage.get_study_id_from_name(name) for name in names]
        known = [(one, storage.get_study_user_attrs(one)) for one in found]
        return [
            Part(storage.get_all_trials(one, deepcopy=False), attributes)
            for one, attributes in known
            if not studies.is_forgotten(attributes)
        ]
