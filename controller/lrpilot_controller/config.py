"""The configuration file of the daemon: TOML, checked whole before anything starts."""

import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lrpilot_controller.core.settings import (
    CoreSettings,
    GuardSettings,
    Limits,
    Reuse,
    SearchSettings,
)
from lrpilot_controller.errors import ConfigError

Factor = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=0, le=1000)]
Steps = Annotated[int, Field(ge=1, le=1_000_000)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class _Guard(_Section):
    factor: Factor = GuardSettings().factor
    escalated_factor: Factor = GuardSettings().escalated_factor
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


class _File(_Section):
    guard: _Guard = _Guard()
    limits: _Limits = _Limits()
    search: _Search = _Search()
    probation_steps: Steps = CoreSettings().probation_steps


def load_settings(path: Path | None) -> CoreSettings:
    """The settings in the TOML file `path`; the defaults where it is None.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or a key or value is not allowed. The
            message names the file, the key, the value and what is allowed.
    """
    if path is None:
        return CoreSettings()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        file = _File.model_validate(data)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_explain(e)}" for e in error.errors())) from error
    return CoreSettings(
        guard=GuardSettings(**file.guard.model_dump()),
        limits=Limits(**file.limits.model_dump()),
        search=SearchSettings(**file.search.model_dump()),
        probation_steps=file.probation_steps,
    )


def _explain(error: Any) -> str:
    """One problem: key, value, and what is allowed."""
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"unknown key '{key}'; allowed are {', '.join(_allowed(error['loc'][:-1]))}"
    return f"key '{key}' is {error['input']!r}: {error['msg']}"


def _allowed(section: tuple[Any, ...]) -> list[str]:
    known: Any = asdict(CoreSettings())
    for name in section:
        known = known[name]
    return sorted(known)
