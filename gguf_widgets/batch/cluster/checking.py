"""What a machine answers, checked beyond its form.

Promises: a reply's numbers are such that the store can keep them; an error is one of ours, with a
bounded message and plain details, whatever the machine said. Leaves to others: the form
(`messages`), whether it was asked (`machine`).
"""

from __future__ import annotations

import math
from typing import Any, Final

from gguf_widgets.batch.cluster.messages import Fault
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    ProtocolError,
    WorkerBusyError,
    from_wire,
)
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.types import Reply

__all__ = ["check_reply", "error_of"]

_MOST_TOKENS: Final = 2**31
_MOST_SEED: Final = 2**32
_MOST_SECONDS: Final = 1e9
_MOST_CHARS: Final = 4000
_MOST_DETAILS: Final = 50
_MOST_WAIT_S: Final = 60.0


def check_reply(reply: Reply) -> None:
    """Raise `ProtocolError` if a number of a reply cannot be true."""
    usage, timings = reply.usage.to_dict(), reply.timings.to_dict()
    wrong = [name for name, value in usage.items() if not 0 <= value < _MOST_TOKENS]
    wrong += [
        name
        for name, value in timings.items()
        if value is not None and not 0 <= value < _MOST_SECONDS
    ]
    if not 0 <= reply.seed < _MOST_SEED:
        wrong.append("seed")
    tokens = reply.logprobs or []
    chances = [one.logprob for one in tokens] + [up.logprob for one in tokens for up in one.top]
    if any(math.isnan(value) for value in chances):  # minus infinity is a token that cannot come
        wrong.append("logprobs")
    if wrong:
        raise ProtocolError(f"It answered with numbers that cannot be: {', '.join(wrong)}.")


def error_of(fault: Fault) -> GgufWidgetsError:
    """Return an error of our tree for what a machine says went wrong."""
    details: dict[str, Any] = {
        name: value
        for name, value in list(fault.details.items())[:_MOST_DETAILS]
        if name.isidentifier() and len(name) < 100 and _is_plain(value)
    }
    message = plain_text(fault.message, _MOST_CHARS) or "It did not say what went wrong."
    error = from_wire({"kind": fault.kind, "message": message, "details": details})
    if isinstance(error, WorkerBusyError):
        late = error.details.get("retry_after_s")
        wait_s = float(late) if isinstance(late, int | float) else 1.0
        error.details["retry_after_s"] = min(max(0.0, wait_s), _MOST_WAIT_S)
    return error


def _is_plain(value: object, depth: int = 3) -> bool:
    """Say whether the store can keep a value, and it is not too long."""
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, str):
        return len(value) <= _MOST_CHARS
    if isinstance(value, int | float):
        return abs(value) < 2**53  # nor NaN
    if not depth or not isinstance(value, list | dict) or len(value) > _MOST_DETAILS:
        return False
    inner = list(value) + (list(value.values()) if isinstance(value, dict) else [])
    is_named = isinstance(value, list) or all(isinstance(name, str) for name in value)
    return is_named and all(_is_plain(one, depth - 1) for one in inner)
