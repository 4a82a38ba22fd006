"""Regenerate the checked-in protobuf and gRPC code, or check that it is up to date.

Usage: `python protos/generate.py` writes it; `python protos/generate.py --check` exits 1 and
names the stale files. Needs exactly the grpcio-tools of the `proto` dependency group: the version
decides which protobuf runtimes can load the result.
"""

import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent
TOOLS = "1.74.0"
PROTOS = sorted(ROOT.glob("lrpilot_proto/v1/*.proto"))


def generate(into: Path) -> None:
    """Write `*_pb2.py`, `*_pb2.pyi` and `*_pb2_grpc.py` below `into`."""
    include = str(Path(protoc.__file__).parent / "_proto")
    out = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python")]
    names = [str(path.relative_to(ROOT)) for path in PROTOS]
    if protoc.main(["protoc", f"-I{ROOT}", f"-I{include}", *out, *names]):
        sys.exit("protoc failed")


def stale() -> list[Path]:
    """Checked-in files that differ from what the .proto files say today."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = {
            path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*.py*")
        }
    return [
        name
        for name, content in sorted(fresh.items())
        if not (ROOT / name).is_file() or (ROOT / name).read_bytes() != content
    ]


def main() -> None:
    if (found := version("grpcio-tools")) != TOOLS:
        sys.exit(f"grpcio-tools {found} found, {TOOLS} needed: pip install --group proto")
    if "--check" in sys.argv[1:]:
        if names := stale():
            sys.exit("stale generated code: " + ", ".join(map(str, names)) + ". Run: make proto")
    else:
        generate(ROOT)


if __name__ == "__main__":
    main()
