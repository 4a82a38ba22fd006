"""The daemon's log: a line per thing that happened, on standard error, for people or machines.

A line about a run carries its ids as fields: `run`, `attempt`, `decision`, `generation`.
"""

import asyncio
import json
import logging
from typing import Any, Literal

Format = Literal["text", "json"]
FIELDS = ("run", "attempt", "decision", "generation", "signal", "code", "who")
_TEXT = "%(asctime)s %(levelname)s %(message)s"
_TIME = "%Y-%m-%dT%H:%M:%S%z"
_NAMES = {"asctime": "time", "levelname": "level", "name": "logger"}


def begin(how: Format) -> None:
    """Log to standard error from now on; what becomes of it is the host's affair."""
    handler = logging.StreamHandler()
    handler.addFilter(_is_news)
    handler.setFormatter(_Text(_TEXT, _TIME) if how == "text" else _json())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _is_news(record: logging.LogRecord) -> bool:
    """Whether anybody needs to know; gRPC tells as a fault that a call was cancelled early.

    As where one comes in while the daemon stops: it ends before the service has seen it.
    """
    kind = record.exc_info[0] if record.exc_info else None
    cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
    return not (cancelled and record.name.startswith("grpc."))


class _Text(logging.Formatter):
    """The message, then the fields as key=value; always one line, unless there is a traceback."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        if not record.name.startswith("lrpilot"):
            record.message = f"{record.name}: {record.message}"
        line = super().formatMessage(record).replace("\n", "\\n")
        found = [(name, record.__dict__.get(name)) for name in FIELDS]
        return line + "".join(f" {name}={_quoted(v)}" for name, v in found if v is not None)


def _quoted(value: Any) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text and '"' not in text else json.dumps(text)


def _json() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(
        "%(asctime)s %(levelname)s %(name)s %(message)s",
        rename_fields=_NAMES,
        datefmt=_TIME,
    )
