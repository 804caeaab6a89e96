"""Who hears of comparisons: experiments, which record them.

Promises: each listener is called with the comparison when it begins and when it has ended, in the
thread where that happens; one that fails is logged and costs nobody anything. Leaves to others:
what they make of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from gguf_widgets.compare.comparison import Comparison

__all__ = ["Event", "subscribe", "tell"]

Event = Literal["started", "ended"]
Listener = Callable[[Event, "Comparison"], None]

_log = logging.getLogger(__name__)
_listeners: list[Listener] = []


def subscribe(listener: Listener) -> Callable[[], None]:
    """Have a listener called with "started" and "ended", and the comparison; the result ends it."""
    _listeners.append(listener)

    def end() -> None:
        if listener in _listeners:
            _listeners.remove(listener)

    return end


def tell(event: Event, comparison: Comparison) -> None:
    """Call the listeners."""
    for listener in _listeners:
        try:
            listener(event, comparison)
        except Exception:  # noqa: BLE001 - it must cost nobody anything
            _log.exception("A listener to comparisons failed")
