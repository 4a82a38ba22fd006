"""`python -m tests.benchmarks [NAME ...]`: run the named benchmarks, or all that are files here.

`quality` and `jumps`, folders, run for hours where their results are not kept; only their names run
them.
"""

import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent


def main(names: list[str]) -> int:
    """Run benchmarks one after another; each module here has a `main()` of its own."""
    sys.path.insert(0, str(HERE.parent))  # `support`, as under pytest
    known = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    folders = sorted(path.parent.name for path in HERE.glob("*/__main__.py"))
    if unknown := [name for name in names if name not in known + folders]:
        there = ", ".join(known + folders)
        print(f"no benchmark {', '.join(unknown)}; there are {there}", file=sys.stderr)
        return 2
    for name in names or known:
        inner = f"{name}.__main__" if name in folders else name
        import_module(f"tests.benchmarks.{inner}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
