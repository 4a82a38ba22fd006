"""What can go wrong in the daemon; messages say what, the value, the limit, and what to do."""


class LRPilotError(Exception):
    """Root of every error that LRPilot's controller side raises on purpose."""


class InvalidTelemetry(LRPilotError):
    """A message of a trainer that cannot be what a trainer meant."""


class OutOfOrder(LRPilotError):
    """Messages of a trainer are missing before one that came; sent again they can be taken."""


class RunBusy(LRPilotError):
    """A run's name has a live session of another attempt."""


class Superseded(LRPilotError):
    """A newer attempt of the run took over from this one."""


class NotAllowed(LRPilotError):
    """Who asks may not have this; the same answer each time."""


class WrongRole(NotAllowed):
    """The token is known, and is for something else."""


class NotFound(LRPilotError):
    """No such run."""


class NotNow(LRPilotError):
    """The run is not in a state for what was asked of it."""


class LimitReached(LRPilotError):
    """More than the daemon's file allows in `[server]`; worth another try later."""


class DetectorFailed(LRPilotError):
    """A detector of another package raised, or said what no detector can say."""


class RunFailed(LRPilotError):
    """LRPilot itself failed on a run; this daemon takes nothing more of it."""


class NoDaemon(LRPilotError):
    """No daemon answers where one is needed."""


class ConfigError(LRPilotError):
    """A setting that cannot be: names the file, the key, the value and what is allowed."""


class DaemonExists(LRPilotError):
    """Another daemon holds this socket or this journal."""


class Stopping(LRPilotError):
    """The daemon ends; another one may take its place."""


class JournalError(LRPilotError):
    """The journal cannot be used."""


class JournalVersionError(JournalError):
    """The journal was written by a newer LRPilot."""


class JournalUnavailable(JournalError):
    """The journal cannot be read or written now: disk full, read-only, locked."""
