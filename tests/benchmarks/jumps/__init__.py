"""Runs whose user is in charge: is a good one left alone, is a bad one saved?"""

import sys
from pathlib import Path

_TESTS = str(Path(__file__).parents[2])
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)  # `benchmarks` and `support`, as under pytest
