"""The checks of `make gpu`, on the CPU as far as they mean something there, and on a device."""

import pytest
import torch
from tests.benchmarks import gpu
from tests.gpu import checks

MISSING = "needs a CUDA device, and torch for it: see `make gpu`"
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason=MISSING)),
]


@pytest.mark.parametrize("device", DEVICES)
def test_a_replayed_step_runs_at_the_lr_that_was_written_last(device: str) -> None:
    assert checks.lr_under_replay(device)["weights_moved"][2] == 0


@pytest.mark.filterwarnings("ignore")  # torch's own, as it compiles
@pytest.mark.parametrize("device", DEVICES)
def test_a_compiled_step_is_compiled_once(device: str) -> None:
    backend = "inductor" if device == "cuda" else "eager"
    assert checks.recompilations(device, backend)["compiled"] >= 1


@pytest.mark.parametrize("device", DEVICES)
def test_no_step_waits_for_a_device(device: str) -> None:
    assert checks.synchronizations(device, 12)["steps"] == 12


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("place", ["host", "device"])
def test_a_snapshot_beside_training_is_exact(device: str, place: str) -> None:
    assert checks.snapshots(device, place)["save_ms"] > 0


def test_without_a_device_nothing_is_measured_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "save", None)
    assert gpu.main() == {}
    assert "no CUDA device" in capsys.readouterr().out
