"""The daemon's log, as its host reads it."""

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, logging, sys
from lrpilot_controller import logs

logs.begin(sys.argv[1])
for name in ("grpc._cython.cygrpc", "lrpilot_controller.server"):
    for error in (asyncio.CancelledError(), ValueError("of a call")):
        try:
            raise error
        except BaseException:
            logging.getLogger(name).exception("not handled")
"""


@pytest.mark.parametrize("how", ["text", "json"])
def test_a_call_that_grpc_cancelled_is_no_fault(how: str) -> None:
    """Any other error of gRPC's is one, and so is any of our own."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.count("not handled") == 3
    assert done.stderr.count("CancelledError") == 1
