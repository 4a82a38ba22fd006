"""The configuration file of the daemon: TOML, checked whole before anything starts."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lrpilot_controller.core.model import Mode
from lrpilot_controller.core.settings import (
    CoreSettings,
    GuardSettings,
    Limits,
    Reaction,
    Reactions,
    Reuse,
    SearchSettings,
    TuneSettings,
)
from lrpilot_controller.errors import ConfigError
from lrpilot_controller.journal.base import RunKey
from lrpilot_controller.journal.retention import Keep
from lrpilot_controller.server.limits import ServerLimits
from lrpilot_controller.tuning.samplers import Sampler


def _checked(signals: dict[str, str]) -> dict[str, str]:
    Reactions().overridden(signals)
    return signals


def _can_mean(pattern: str) -> str:
    if not any(sign in pattern for sign in "/*?["):
        raise ValueError(f"no run is meant: they are called project/name, so write '*/{pattern}'")
    return pattern


Factor = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=0, le=1000)]
Steps = Annotated[int, Field(ge=1, le=1_000_000)]
Amount = Annotated[int, Field(ge=1, le=1_000_000_000)]
Pattern = Annotated[str, AfterValidator(_can_mean)]
Signals = Annotated[dict[str, str], AfterValidator(_checked)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class _Guard(_Section):
    factor: Factor = GuardSettings().factor
    escalated_factor: Factor = GuardSettings().escalated_factor
    too_high_factor: Factor = GuardSettings().too_high_factor
    max_rollbacks: Count = GuardSettings().max_rollbacks


class _Limits(_Section):
    max_factor: Annotated[float, Field(gt=1, le=1000)] = Limits().max_factor
    max_rollbacks: Count = Limits().max_rollbacks
    max_rolled_back_fraction: Annotated[float, Field(ge=0, le=1)] = (
        Limits().max_rolled_back_fraction
    )
    max_probed_fraction: Annotated[float, Field(ge=0, le=1)] = Limits().max_probed_fraction
    cooldown_steps: Steps = Limits().cooldown_steps


class _Search(_Section):
    reuse: Reuse = SearchSettings().reuse


class _Tune(_Section):
    factors: bool = TuneSettings().factors
    span: Annotated[float, Field(gt=1, le=10)] = TuneSettings().span
    sampler: Sampler = Sampler.QUADRATIC


class _Server(_Section):
    max_sessions: Annotated[int, Field(ge=1, le=10_000)] = ServerLimits().max_sessions
    max_sessions_per_identity: Amount = ServerLimits().max_sessions_per_identity
    new_sessions_per_minute: Amount = ServerLimits().new_sessions_per_minute
    samples_per_second: Amount = ServerLimits().samples_per_second
    samples_per_second_per_identity: Amount = ServerLimits().samples_per_second_per_identity
    operator_calls_per_second: Amount = ServerLimits().operator_calls_per_second
    max_runs: Amount = ServerLimits().max_runs
    max_runs_per_project: Amount = ServerLimits().max_runs_per_project
    max_attempts_per_run: Amount = ServerLimits().max_attempts_per_run
    max_journal_mib: Amount = ServerLimits().max_journal_mib
    min_free_mib: Annotated[int, Field(ge=0)] = ServerLimits().min_free_mib


class _Retention(_Section):
    keep_days: Annotated[float, Field(gt=0)] | None = Keep().days
    keep_samples: Annotated[int, Field(ge=1000, le=100_000_000)] = Keep().samples


class _Run(_Section):
    mode: Literal["off", "observe", "advise"] | None = None
    signals: Signals = Field(default_factory=dict)


class _File(_Section):
    guard: _Guard = _Guard()
    limits: _Limits = _Limits()
    search: _Search = _Search()
    tune: _Tune = _Tune()
    server: _Server = _Server()
    retention: _Retention = _Retention()
    signals: Signals = Field(default_factory=dict)
    runs: dict[Pattern, _Run] = Field(default_factory=dict)
    probation_steps: Steps = CoreSettings().probation_steps


@dataclass(frozen=True, slots=True)
class RunSection:
    """What a person set for the runs that a pattern means.

    Attributes:
        pattern: a glob over `project/name`; `*` also passes the slash.
        limit: the most that LRPilot may do; AUTO leaves it to the training code.
        signals: reactions by the kind of signal.
    """

    pattern: str
    limit: Mode = Mode.AUTO
    signals: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """What a person set: for all runs, and in sections for some of them.

    `sampler` proposes factors where they are tuned.
    """

    settings: CoreSettings = field(default_factory=CoreSettings)
    sections: tuple[RunSection, ...] = ()
    server: ServerLimits = field(default_factory=ServerLimits)
    keep: Keep = field(default_factory=Keep)
    sampler: Sampler = Sampler.QUADRATIC

    def settings_of(self, run: RunKey) -> CoreSettings:
        """The settings of one run; of the sections that mean it, a later one wins."""
        insisted: dict[str, Reaction] = {}
        for section in self._about(run):
            insisted |= {kind: Reaction(word) for kind, word in section.signals.items()}
        return replace(self.settings, insisted=insisted)

    def mode_of(self, run: RunKey, asked: Mode) -> Mode:
        """The mode in force where the training code asks for `asked`: never a higher one."""
        for section in self._about(run):
            asked = asked.at_most(section.limit)
        return asked

    def _about(self, run: RunKey) -> list[RunSection]:
        return [one for one in self.sections if fnmatchcase(str(run), one.pattern)]


def load_config(path: Path | None) -> Config:
    """What the TOML file `path` says; the defaults where it is None.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or a key or value is not allowed. The
            message names the file, the key, the value and what is allowed.
    """
    if path is None:
        return Config()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        file = _File.model_validate(data)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_explain(e)}" for e in error.errors())) from error
    settings = CoreSettings(
        guard=GuardSettings(**file.guard.model_dump()),
        limits=Limits(**file.limits.model_dump()),
        search=SearchSettings(**file.search.model_dump()),
        tune=TuneSettings(file.tune.factors, file.tune.span),
        reactions=Reactions().overridden(file.signals),
        probation_steps=file.probation_steps,
    )
    sections = tuple(
        RunSection(pattern, Mode(run.mode or Mode.AUTO), run.signals)
        for pattern, run in file.runs.items()
    )
    keep = Keep(file.retention.keep_days, file.retention.keep_samples)
    limits = ServerLimits(**file.server.model_dump())
    return Config(settings, sections, limits, keep, file.tune.sampler)


def _explain(error: Any) -> str:
    """One problem: key, value, and what is allowed."""
    key = ".".join(str(part) for part in error["loc"] if part != "[key]")
    if error["type"] == "extra_forbidden":
        return f"unknown key '{key}'; allowed are {', '.join(_allowed(error['loc'][:-1]))}"
    if error["type"] == "value_error":
        return f"key '{key}': {error['ctx']['error']}"
    if error["type"] in ("model_type", "dict_type"):
        return f"key '{key}' is {error['input']!r}: a table with keys of its own is needed"
    return f"key '{key}' is {error['input']!r}: {error['msg']}"


def _allowed(section: tuple[Any, ...]) -> list[str]:
    known: type[BaseModel] = _File
    if section[:1] == ("runs",):
        known = _Run
    elif section:
        known = type(getattr(_File(), section[0]))
    return sorted(known.model_fields)
