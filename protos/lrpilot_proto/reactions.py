"""What may follow from each signal: the words that training code and the daemon agree on."""

from collections.abc import Mapping

ALWAYS = ("off", "say")
"""Allowed for every signal: it is not reported, or reported and nothing is done."""

REACTIONS: Mapping[str, tuple[str, ...]] = {
    "nonfinite": ("rollback",),
    "divergence": ("rollback",),
    "spike": ("wait",),
    "oscillation": ("cut",),
    "too_high": ("cut", "search"),
    "plateau": ("probe", "cut"),
    "too_low": ("probe",),
    "overfit": ("cut", "stop"),
}
"""What else is allowed, by the signal's kind."""


def is_allowed(signal: str, word: str) -> bool:
    """Whether `word` may follow from `signal`; False for what this version does not know."""
    return signal in REACTIONS and word in (*ALWAYS, *REACTIONS[signal])


def check(reactions: Mapping[str, str]) -> None:
    """Check words by the kind of their signal.

    Raises:
        ValueError: there is no such signal, or the word is not allowed for it, with what is; all
            that is wrong is told.
    """
    if wrong := [_why_not(*pair) for pair in reactions.items() if not is_allowed(*pair)]:
        raise ValueError("; ".join(wrong))


def _why_not(signal: str, word: str) -> str:
    if signal not in REACTIONS:
        return f"there is no signal {signal!r}; there are {', '.join(REACTIONS)}"
    *others, last = (*ALWAYS, *REACTIONS[signal])
    return f"signal {signal}={word!r}: {', '.join(others)} or {last} is allowed"
