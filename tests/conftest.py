"""Settings of the whole suite."""

import os
import signal

from hypothesis import settings

# In continuous integration a change is judged by the same examples as the last one; new examples
# are looked for wherever people run the suite.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# A shell's background job ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
