"""Small disks, and files that were damaged."""

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(where: Path, kib: int) -> Iterator[Path]:
    """A file system of its own of that size at `where`; skips the test where none may be made."""
    where.mkdir()
    size = f"size={kib}k,mode=0700"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(where)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("only root can mount a small disk")
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(file: Path) -> None:
    """Use up all that is left of a disk."""
    with file.open("wb", buffering=0) as into:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    into.write(bytes(size))
            except OSError:
                continue


def scribble(file: Path, seed: int, *, start: int = 0, size: int | None = None) -> None:
    """Overwrite a part of a file with noise; by default all from `start` on."""
    end = file.stat().st_size if size is None else start + size
    with file.open("r+b") as into:
        into.seek(start)
        into.write(random.Random(seed).randbytes(end - start))
