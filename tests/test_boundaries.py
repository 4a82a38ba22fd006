"""What may import what, what the wheel holds, and what lies at the top of the repository."""

import ast
import email
import fnmatch
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTROLLER = ROOT / "controller" / "lrpilot_controller"
ADAPTERS = ROOT / "adapters" / "lrpilot"
PROTOS = ROOT / "protos" / "lrpilot_proto"
CORE = CONTROLLER / "core"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# What would make the same events give other decisions, or tie the core to one way of running it.
IMPURE = {
    *("time", "datetime", "random", "secrets", "uuid", "os", "io", "socket", "threading"),
    *("asyncio", "logging", "pathlib", "subprocess", "sqlite3"),
    *("grpc", "google", "optuna", "torch", "sqlalchemy", "pydantic"),
    *("lrpilot_proto.v1", "lrpilot_proto.rendezvous"),
}
BY_NAME = {"import_module", "__import__"}
TALKATIVE = {"open", "input", "print", "exec", "eval", "breakpoint"}


def files(*roots: Path) -> list[Path]:
    return [path for root in roots for path in sorted(root.rglob("*.py"))]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def module_of(path: Path) -> list[str]:
    """`core/engine.py` as the package that its relative imports start from."""
    base = next(r for r in (CONTROLLER, ADAPTERS, PROTOS) if path.is_relative_to(r))
    return list(path.relative_to(base.parent).parent.parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file may import, wherever in it, each as a full dotted name.

    `from a import b` may import the module a.b, and is counted as both. Where a file imports by
    name (`importlib.import_module`), every dotted string in it may be such a name.
    """
    dynamic = False
    strings: list[str] = []
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, level):
                package = module_of(path)
                above = package[: len(package) - level + 1] if level else []
                base = ".".join([*above, *([module] if module else [])])
                yield base
                yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Call(ast.Name(by) | ast.Attribute(attr=by), [*args]) if by in BY_NAME:
                dynamic = True
                yield from (str(a.value) for a in args if isinstance(a, ast.Constant))
            case ast.Constant(str(text)) if "." in text:
                strings.append(text)
    if dynamic:
        yield from strings


def importers(roots: list[Path], *modules: str) -> set[str]:
    """The files under `roots` that import one of `modules` or something inside of it."""
    return {
        str(path.relative_to(ROOT))
        for path in files(*roots)
        for name in imports(path)
        if any(name == module or name.startswith(f"{module}.") for module in modules)
    }


# -- the three roots


def test_the_scan_sees_every_way_to_import() -> None:
    # A scan that sees nothing would let everything pass.
    path = CONTROLLER / "cli" / "__init__.py"
    found = set(imports(path))
    assert {"click", "lrpilot_controller.errors", "lrpilot_controller.errors.LRPilotError"} <= found
    assert "lrpilot_controller.cli." in found
    assert importers([CONTROLLER], "lrpilot_controller.core.engine")
    assert importers([ADAPTERS], "lrpilot.torch.attach") >= {"adapters/lrpilot/__init__.py"}


def test_controller_and_adapters_never_import_each_other() -> None:
    assert importers([CONTROLLER], "lrpilot") == set()
    assert importers([ADAPTERS], "lrpilot_controller") == set()


def test_the_contract_knows_neither_side() -> None:
    assert importers([PROTOS], "lrpilot", "lrpilot_controller", "torch", "optuna") == set()


# -- the core


def test_the_core_is_pure() -> None:
    assert importers([CORE], *IMPURE) == set()


def test_the_core_depends_on_nothing_else_of_the_daemon() -> None:
    outside = {
        (path.name, name)
        for path in files(CORE)
        for name in imports(path)
        if name.startswith("lrpilot_controller.") and not name.startswith("lrpilot_controller.core")
    }
    assert outside == set()


def test_the_core_neither_reads_nor_writes() -> None:
    calls = {
        (path.name, node.func.id)
        for path in files(CORE)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert {call for call in calls if call[1] in TALKATIVE} == set()


# -- inside the daemon


def test_only_tuning_imports_optuna() -> None:
    elsewhere = importers([CONTROLLER, ADAPTERS, PROTOS], "optuna", "optuna_dashboard")
    tuning = "controller/lrpilot_controller/tuning/"
    # `lrpilot review` is the dashboard itself.
    review = "controller/lrpilot_controller/cli/review.py"
    assert {path for path in elsewhere if not path.startswith(tuning)} <= {review}
    assert "optuna" not in {name.split(".")[0] for name in imports_if_there(ROOT / review)}


def imports_if_there(path: Path) -> set[str]:
    return set(imports(path)) if path.exists() else set()


def test_only_the_conversion_knows_both_the_wire_and_the_core() -> None:
    both = importers([CONTROLLER], "lrpilot_proto.v1.model_pb2") & importers(
        [CONTROLLER], "lrpilot_controller.core.model"
    )
    server = "controller/lrpilot_controller/server/"
    assert {path for path in both if not path.startswith(f"{server}convert/")} == {
        f"{server}tell_wire.py"
    }


def test_only_what_keeps_things_in_a_database_imports_sqlalchemy() -> None:
    parts = ("journal/", "tuning/", "storage.py", "postgres.py", "cli/database.py")
    where = tuple(f"controller/lrpilot_controller/{part}" for part in parts)
    for path in importers([CONTROLLER, ADAPTERS], "sqlalchemy"):
        assert path.startswith(where)


# -- what is loaded when


def loaded(code: str, *blocked: str) -> set[str]:
    """Runs `code` in a new process without `blocked`; the top-level modules loaded in the end."""
    script = f"""
import sys
for name in {blocked!r}:
    sys.modules[name] = None
{code}
print("\\n".join({{name.partition(".")[0] for name, m in sys.modules.items() if m is not None}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_lrpilot_loads_nothing_heavy() -> None:
    heavy = {"grpc", "google", "torch", "numpy", "optuna", "sqlalchemy", "lrpilot_controller"}
    heavy |= {"transformers", "accelerate"}
    assert loaded("import lrpilot") & heavy == set()


def test_the_controller_needs_no_torch() -> None:
    commands = [path.stem for path in files(CONTROLLER / "cli") if path.stem != "__init__"]
    code = "import lrpilot_controller.server.daemon\n" + "\n".join(
        f"import lrpilot_controller.cli.{command}" for command in commands
    )
    seen = loaded(code, "torch", "pytorch_lightning", "lightning", "lrpilot")
    assert {"grpc", "lrpilot_controller"} <= seen


def test_the_training_side_needs_nothing_of_the_controller() -> None:
    code = "import lrpilot, lrpilot.client.agent, lrpilot.pilot, lrpilot.torch.attach"
    # NumPy is torch's own business.
    blocked = ("optuna", "optuna_dashboard", "sqlalchemy", "alembic", "click", "rich", "plotext")
    blocked += ("pydantic", "lrpilot_controller", "transformers", "accelerate")
    seen = loaded(code, *blocked)
    assert {"torch", "lrpilot"} <= seen


def test_the_pilot_needs_no_torch() -> None:
    seen = loaded("import lrpilot.pilot, lrpilot.client.agent", "torch", "numpy")
    assert "lrpilot" in seen


# -- what is shipped


def test_the_training_side_needs_http2_and_protobuf_only() -> None:
    assert [bare(line) for line in PROJECT["dependencies"]] == ["h2", "protobuf"]


def bare(requirement: str) -> str:
    """`protobuf>=6,<8` -> `protobuf`."""
    return re.split(r"[<>=!~\[; ]", requirement)[0]


@pytest.mark.parametrize("group", sorted(PROJECT["entry-points"]))
def test_entry_points_load(group: str) -> None:
    for name, value in PROJECT["entry-points"][group].items():
        plugin = EntryPoint(name, value, group).load()
        assert isinstance(plugin, type)
        if group == "lrpilot.detectors":
            assert plugin.name == name


def test_scripts_load() -> None:
    for name, value in PROJECT["scripts"].items():
        assert callable(EntryPoint(name, value, "console_scripts").load())


def test_every_detector_and_policy_is_an_entry_point() -> None:
    for kind in ("detectors", "policies"):
        declared = set(PROJECT["entry-points"][f"lrpilot.{kind}"].values())
        for value in declared:
            assert value.startswith(f"lrpilot_controller.core.{kind}.")
        suffix = {"detectors": "Detector", "policies": "Policy"}[kind]
        written = {
            f"lrpilot_controller.core.{kind}.{path.stem}:{node.name}"
            for path in files(CORE / kind)
            for node in tree_of(path).body
            if isinstance(node, ast.ClassDef) and node.name.endswith(suffix) and node.name != suffix
        }
        assert written == declared


@pytest.mark.parametrize("package", [CONTROLLER, ADAPTERS, PROTOS])
def test_every_package_is_typed(package: Path) -> None:
    assert (package / "py.typed").is_file()


@pytest.mark.parametrize("package", [CONTROLLER, ADAPTERS, PROTOS])
def test_every_folder_with_code_is_a_package(package: Path) -> None:
    # A namespace package works from the tree by chance, and hides a missing file in the wheel.
    folders = {path.parent for path in files(package)}
    assert {f for f in folders if not (f / "__init__.py").is_file()} == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from the tree; fetches the build backend as any `pip install` does."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(out), "."]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("lrpilot-*.whl")
    return zipfile.ZipFile(path)


def text_in(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = (path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


@pytest.mark.slow
def test_the_wheel_holds_the_three_packages_whole(wheel: zipfile.ZipFile) -> None:
    inside = {path for path in wheel.namelist() if ".dist-info/" not in path}
    assert {path.split("/")[0] for path in inside} == {
        "lrpilot",
        "lrpilot_controller",
        "lrpilot_proto",
    }
    for package in (CONTROLLER, ADAPTERS, PROTOS):
        wanted = {str(path.relative_to(package.parent)) for path in files(package)}
        assert wanted | {f"{package.name}/py.typed"} <= inside


@pytest.mark.slow
def test_the_wheel_asks_for_what_the_project_file_says(wheel: zipfile.ZipFile) -> None:
    metadata: Message = email.message_from_string(text_in(wheel, "METADATA"))
    required = metadata.get_all("Requires-Dist", [])
    assert sorted(bare(r) for r in required if "extra ==" not in r) == ["h2", "protobuf"]
    extras = PROJECT["optional-dependencies"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(extras)
    for extra in ("controller", "torch"):
        of_extra = [r for r in required if f"extra == '{extra}'" in r]
        assert sorted(map(bare, of_extra)) == sorted(map(bare, extras[extra]))


@pytest.mark.slow
def test_the_wheel_declares_every_entry_point(wheel: zipfile.ZipFile) -> None:
    declared = text_in(wheel, "entry_points.txt").splitlines()
    groups = {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}
    for group, points in groups.items():
        assert f"[{group}]" in declared
        assert {f"{name} = {value}" for name, value in points.items()} <= set(declared)


# -- the top of the repository


def test_the_top_level_holds_only_what_belongs_there() -> None:
    allowed = {
        *("pyproject.toml", "README.md", "Makefile", "LICENSE", "CHANGELOG.md", "constraints.txt"),
        *("controller", "adapters", "protos", "tests", "examples"),
    }
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
    there = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".")
        and not any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored)
    }
    assert there <= allowed
