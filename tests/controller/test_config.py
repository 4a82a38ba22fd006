"""The configuration file: what it may say, and what a person is told where it cannot be."""

from dataclasses import asdict
from pathlib import Path

import pytest

from lrpilot_controller.config import Config, RunSection, load_config
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
from lrpilot_controller.journal import RunKey
from lrpilot_controller.journal.retention import Keep
from lrpilot_controller.tuning.samplers import Sampler

ALL = "guard, limits, probation_steps, retention, runs, search, server, signals, tune"
DEMO = RunKey("demo", "exp-1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lrpilot.toml"


def refused(file: Path, text: str | bytes) -> str:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_without_a_file_the_defaults_hold() -> None:
    assert load_config(None) == Config()


def test_what_is_kept_can_be_set(file: Path) -> None:
    assert load_config(None).keep == Keep(days=None, samples=200_000)
    file.write_text("[retention]\nkeep_days = 0.5\nkeep_samples = 5000")
    assert load_config(file).keep == Keep(days=0.5, samples=5000)
    assert "'retention.keep_samples' is 10" in refused(file, "[retention]\nkeep_samples = 10")
    assert "'retention.keep_days' is 0" in refused(file, "[retention]\nkeep_days = 0")


def test_an_empty_file_changes_nothing(file: Path) -> None:
    file.write_text("")
    assert load_config(file) == Config()


def test_every_setting_can_be_set(file: Path) -> None:
    file.write_text(
        """
        probation_steps = 80
        [guard]
        factor = 0.5
        escalated_factor = 0.05
        too_high_factor = 0.2
        max_rollbacks = 5
        [limits]
        max_factor = 4
        max_rollbacks = 6
        max_rolled_back_fraction = 0.25
        max_probed_fraction = 0.2
        cooldown_steps = 10
        [search]
        reuse = "trust"
        [tune]
        factors = true
        span = 2.0
        sampler = "tpe"
        [signals]
        nonfinite = "say"
        divergence = "say"
        spike = "say"
        oscillation = "say"
        too_high = "search"
        plateau = "probe"
        too_low = "probe"
        overfit = "stop"
        """
    )
    config = load_config(file)
    assert config.sampler is Sampler.TPE
    made = config.settings
    assert made == CoreSettings(
        guard=GuardSettings(0.5, 0.05, 0.2, 5),
        limits=Limits(4.0, 6, 0.25, 0.2, 10),
        search=SearchSettings(Reuse.TRUST),
        tune=TuneSettings(factors=True, span=2.0),
        reactions=Reactions(
            nonfinite=Reaction.SAY,
            divergence=Reaction.SAY,
            spike=Reaction.SAY,
            oscillation=Reaction.SAY,
            too_high=Reaction.SEARCH,
            plateau=Reaction.PROBE,
            too_low=Reaction.PROBE,
            overfit=Reaction.STOP,
        ),
        probation_steps=80,
    )
    # A setting that is added to the core and forgotten here would show as its default.
    flat, default = flatten(asdict(made)), flatten(asdict(CoreSettings()))
    assert flat.keys() == default.keys()
    # What holds for one run only is in sections.
    assert [key for key in flat if flat[key] == default[key]] == []


def flatten(settings: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def test_a_part_keeps_the_other_defaults(file: Path) -> None:
    file.write_text("[guard]\nmax_rollbacks = 1\n")
    assert load_config(file).settings == CoreSettings(guard=GuardSettings(max_rollbacks=1))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[guard]\nfactor = 1.5", ["guard.factor", "1.5", "less than 1"]),
        ("[guard]\nfactor = 0", ["guard.factor", "0", "greater than 0"]),
        ("[guard]\nfactor = nan", ["guard.factor", "nan"]),
        ('[guard]\nfactor = "half"', ["guard.factor", "'half'", "number"]),
        (
            "[guard]\nmax_rollbacks = -1",
            ["guard.max_rollbacks", "-1", "greater than or equal to 0"],
        ),
        ("[guard]\nmax_rollbacks = 2.5", ["guard.max_rollbacks", "2.5"]),
        ("[limits]\nmax_factor = 1", ["limits.max_factor", "greater than 1"]),
        ("[limits]\nmax_rolled_back_fraction = 2", ["limits.max_rolled_back_fraction", "2"]),
        (
            '[search]\nreuse = "perhaps"',
            ["search.reuse", "'perhaps'", "'check' or 'trust'"],
        ),
        ("[limits]\nmax_probed_fraction = 2", ["limits.max_probed_fraction", "2"]),
        ("probation_steps = 0", ["probation_steps", "0"]),
        ("guard = 3", ["guard", "3"]),
        ('[signals]\nplateau = "roll"', ["'signals'", "plateau='roll'", "off, say, probe or cut"]),
        ('[signals]\nplatau = "cut"', ["'signals'", "'platau'", "plateau, too_low"]),
        (
            '[runs."demo/*"]\nsignals = {spike = "cut"}',
            ["runs.demo/*.signals", "spike='cut'", "off, say or wait"],
        ),
        ("[runs]\nx = 3", ["runs.x", "is 3", "table"]),
        ('[runs."demo/*"]\nsignals = "off"', ["runs.demo/*.signals", "'off'", "table"]),
        ('[runs.exp-1]\nmode = "off"', ["'runs.exp-1'", "project/name", "'*/exp-1'"]),
        (
            '[signals]\nplateau = "roll"\nspik = "off"',
            ["plateau='roll'", "'spik'"],
        ),
        ('[runs."demo/*"]\nmode = "auto"', ["runs.demo/*.mode", "'auto'", "'advise'"]),
    ],
)
def test_a_value_out_of_range_names_key_value_and_limit(
    file: Path, text: str, parts: list[str]
) -> None:
    message = refused(file, text)
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        (
            "[guard]\nfacto = 0.5",
            "guard.facto",
            "escalated_factor, factor, max_rollbacks, too_high_factor",
        ),
        ("[limit]\nmax_factor = 4", "limit", ALL),
        ("cooldown_steps = 4", "cooldown_steps", ALL),
        ('[runs."a/*"]\nlimits = 3', "runs.a/*.limits", "mode, signals"),
    ],
)
def test_an_unknown_key_names_the_known_ones(file: Path, text: str, key: str, allowed: str) -> None:
    message = refused(file, text)
    assert f"unknown key '{key}'" in message
    assert allowed in message


def test_every_problem_is_told_at_once(file: Path) -> None:
    message = refused(file, "probation_steps = 0\n[guard]\nfactor = 2\nrepeat = 1")
    assert len(message.splitlines()) == 3


@pytest.mark.parametrize("text", ["[guard", "factor 0.5", b"\xff\xfe"])
def test_what_is_not_toml(file: Path, text: str | bytes) -> None:
    refused(file, text)


def test_a_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"lrpilot\.toml: cannot be read"):
        load_config(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(file.parent)


# -- sections for some runs


def test_every_section_that_means_a_run_applies_and_a_later_one_wins(file: Path) -> None:
    file.write_text(
        """
        [signals]
        plateau = "cut"
        [runs."demo/*"]
        mode = "advise"
        signals = {plateau = "probe", overfit = "stop"}
        [runs."*/exp-?"]
        signals = {plateau = "off"}
        [runs."other/*"]
        mode = "off"
        signals = {plateau = "say"}
        """
    )
    config = load_config(file)
    settings = config.settings_of(DEMO)
    assert settings.reactions.plateau is Reaction.CUT
    assert settings.insisted == {"plateau": Reaction.OFF, "overfit": Reaction.STOP}
    assert config.settings_of(RunKey("lone", "run")).insisted == {}
    assert config.mode_of(DEMO, Mode.AUTO) is Mode.ADVISE


@pytest.mark.parametrize("asked", list(Mode))
@pytest.mark.parametrize("limit", list(Mode))
def test_a_section_only_ever_lowers_the_mode(asked: Mode, limit: Mode) -> None:
    config = Config(sections=(RunSection("demo/*", limit),))
    rank = list(Mode).index
    assert rank(config.mode_of(DEMO, asked)) == min(rank(asked), rank(limit))
    assert config.mode_of(RunKey("other", "exp-1"), asked) is asked
