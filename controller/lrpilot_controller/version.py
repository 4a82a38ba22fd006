"""The installed version of LRPilot."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("lrpilot")
except PackageNotFoundError:  # a source tree on the path, not installed
    VERSION = "0"
