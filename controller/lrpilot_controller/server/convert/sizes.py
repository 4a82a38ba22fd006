"""How much of each thing a message may hold: what is journaled stays, so a peer has no free hand.

What makes no sense so large is refused; a text for people is cut, because training that has too
much to say is no reason to leave it alone.
"""

from lrpilot_controller.errors import InvalidTelemetry

MAX_GROUPS = 4096
MAX_SEGMENTS = 1000
MAX_SIGNALS = 64
MAX_NAME = 200
MAX_TEXT = 2000


def check_count(what: str, count: int, most: int) -> None:
    """Refuse more of something than a trainer has.

    Raises:
        InvalidTelemetry: there are more than `most`; the message names them.
    """
    if count > most:
        raise InvalidTelemetry(f"{what}: there are {count}, at most {most} are allowed")


def cut(text: str, most: int = MAX_TEXT) -> str:
    """The text, with its end left out where it is too long."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
