"""Open files: how many the daemon may have, and how many it needs."""

import logging
import resource

log = logging.getLogger(__name__)

OWN_FILES = 64
"""The journal, the trials, logs, pipes, and what libraries hold."""


def most_connections(wanted: int) -> int:
    """How many connections there can be, with the limit of open files raised to what is allowed.

    A connection is an open file. Without this many left for the daemon's own, it could accept a
    connection and then not open its journal.

    Args:
        wanted: connections that the daemon's limits would allow.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OWN_FILES
    if soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        if raised > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    most = max(1, min(wanted, soft - OWN_FILES))
    if most < wanted:
        log.warning(
            "this process may have %d files open, so %d connections, not the %d that server."
            "max_sessions may need: raise it (ulimit -n)",
            soft,
            most,
            wanted,
        )
    return most
