"""The files of examples/deploy, each held against its tool's own checker."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from lrpilot_controller.cli.serve import serve

DEPLOY = Path(__file__).parents[1] / "examples" / "deploy"
INSTALLED = Path(sys.executable).parent / "lrpilot"


def checked(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "lrpilot.service"
    text = (DEPLOY / unit.name).read_text()
    # It looks whether the program is there, and where users have it this machine need not.
    unit.write_text(text.replace("%h/.local/bin/lrpilot", str(INSTALLED)))
    done = checked("systemd-analyze", "verify", "--user", "--man=no", unit)
    if "XDG_RUNTIME_DIR" in done.stderr or "Failed to initialize" in done.stderr:
        done = checked("systemd-analyze", "verify", "--man=no", unit)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_would_refuse_a_wrong_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "lrpilot.service"
    unit.write_text("[Service]\nExecStart=relative/lrpilot\n")
    assert checked("systemd-analyze", "verify", "--man=no", unit).stderr


def test_compose_has_the_form_of_its_specification() -> None:
    check = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
    done = checked(*check, DEPLOY / "compose.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_kubernetes_accepts_the_manifest() -> None:
    documents = list(manifest())
    assert [one["kind"] for one in documents] == ["PersistentVolumeClaim", "Job"]
    for one in documents:
        kubernetes_validate.validate(one, "1.31", strict=True)
    documents[1]["spec"]["template"]["spec"]["initContainers"][0]["probe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(documents[1], "1.31", strict=True)


def test_every_file_starts_the_daemon_with_options_that_it_has() -> None:
    commands = list(daemon_commands())
    assert len(commands) == 3
    for command in commands:
        program, name, *options = command
        assert (Path(program).name, name) == ("lrpilot", "serve")
        serve.make_context("serve", options)


def test_trainer_and_daemon_share_a_user_and_a_socket() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    daemon, train = compose["lrpilot"], compose["train"]
    assert daemon["user"] == train["user"]
    assert train["environment"]["LRPILOT_ADDRESS"] in daemon["command"]
    pod = list(manifest())[1]["spec"]["template"]["spec"]
    (sidecar,), (trainer,) = pod["initContainers"], pod["containers"]
    assert pod["securityContext"]["runAsUser"] > 0
    (address,) = [e["value"] for e in trainer["env"] if e["name"] == "LRPILOT_ADDRESS"]
    assert address in sidecar["command"]
    assert {"name": "LRPILOT_ADDRESS", "value": address} in sidecar["env"]


def manifest() -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all((DEPLOY / "kubernetes-sidecar.yaml").read_text())


def daemon_commands() -> Iterator[list[str]]:
    unit = re.search(r"^ExecStart=(.*)$", (DEPLOY / "lrpilot.service").read_text(), re.M)
    assert unit
    yield shlex.split(unit[1])
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    yield compose["services"]["lrpilot"]["command"]
    yield list(manifest())[1]["spec"]["template"]["spec"]["initContainers"][0]["command"]
