"""`make matrix`: what its rows are, and that a red one is seen."""

import sys
from collections.abc import Sequence
from typing import Any

import pytest
from tests import matrix


def test_the_oldest_are_those_that_the_project_allows() -> None:
    floors = matrix.floors()
    assert tuple(floors) == matrix.PACKAGES
    assert all(floor[0].isdigit() for floor in floors.values())


def test_a_python_that_is_not_here_is_a_row_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["matrix", "--only", "3.15"])
    monkeypatch.setattr(matrix.shutil, "which", lambda name: None)
    monkeypatch.setattr(matrix, "FREE_GIB", 0)
    if sys.version_info[:2] != (3, 15):
        assert matrix.main() == 0
        assert "not on this machine" in capsys.readouterr().out


def test_a_row_that_fails_is_red_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: Sequence[str], environ: Any = None) -> str:
        if "-c" in command:
            return " ".join("1" for _ in matrix.PACKAGES)
        if "pytest" in command and not ran:
            ran.append(command)
            raise matrix.Failed("what the tests printed")
        return ""

    ran: list[Sequence[str]] = []
    monkeypatch.setattr(sys, "argv", ["matrix", "--quick"])
    monkeypatch.setattr(matrix, "run", run)
    assert matrix.main() == 1
    printed = capsys.readouterr().out
    assert "what the tests printed" in printed
    assert (printed.count("RED"), printed.count("green")) == (1, 1)
