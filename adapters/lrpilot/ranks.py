"""The port between the ranks of one run, and what the first of them says to all."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lrpilot.client.base import Finish, Forgotten, Message
from lrpilot_proto.v1 import model_pb2, session_pb2


class Ranks(Protocol):
    """Several processes that train one model, and a place where they leave notes to each other.

    No method is a collective: any rank may call any of them at any time.

    Attributes:
        rank: of this process, from 0.
        world: how many there are.
        timeout_s: how long one may wait for another, as in their own collectives.
    """

    rank: int
    world: int
    timeout_s: float

    def put(self, key: str, value: str) -> str:
        """Leave a note, unless one lies there already; returns the one that stands, for ever.

        Args:
            key: its place.
            value: not empty.
        """
        ...

    def get(self, keys: Sequence[str], timeout_s: float) -> list[str] | None:
        """The notes at these places, once all are there; None at the timeout."""
        ...


# The kinds of messages that rank 0 passes on as bytes.
_KINDS: dict[str, Any] = {
    "decision": model_pb2.Decision,
    "proven": session_pb2.SnapshotProven,
    "welcome": session_pb2.Welcome,
}


@dataclass
class Word:
    """What rank 0 says to all ranks at one point of training.

    Attributes:
        says: the daemon's messages since the last word.
        heard: whether what rank 0 waited for came.
        take: whether a snapshot is to be taken.
        end: why something ends or fails here on all ranks; empty where it does not.
        apart: why the ranks no longer act together; empty while they do.
    """

    says: list[Message] = field(default_factory=list)
    heard: bool = False
    take: bool = False
    end: str = ""
    apart: str = ""

    def encode(self) -> str:
        """As text."""
        return json.dumps({**vars(self), "says": [_encoded(one) for one in self.says]})

    @classmethod
    def decode(cls, text: str) -> "Word":
        """From the text of `encode`."""
        fields = json.loads(text)
        return cls(**{**fields, "says": [_decoded(*one) for one in fields["says"]]})


def _encoded(message: Message) -> tuple[str, Any]:
    if isinstance(message, Forgotten):
        return "forgotten", None
    if isinstance(message, Finish):
        return "finish", message.end
    kind = next(name for name, made in _KINDS.items() if isinstance(message, made))
    return kind, message.SerializeToString().decode("latin-1")


def _decoded(kind: str, value: Any) -> Message:
    if kind == "forgotten":
        return Forgotten()
    if kind == "finish":
        return Finish(value)
    message: Message = _KINDS[kind].FromString(value.encode("latin-1"))
    return message
