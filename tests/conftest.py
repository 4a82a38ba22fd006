"""Settings of the whole suite."""

import os

from hypothesis import settings

# In continuous integration a change is judged by the same examples as the last one; new examples
# are looked for wherever people run the suite.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
