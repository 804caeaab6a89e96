"""Pictures of what the core measured: whoever can draw hands its makers over here.

The core may not import what draws. A public name that can draw brings its makers with it
(`gguf_widgets._BESIDE`).

Promises: a figure's maker is found by its kind, or an error says what is missing. Leaves to others:
the pictures themselves (`widgets`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gguf_widgets.core.errors import InvalidValueError

__all__ = ["figure_kinds", "make_figure", "register_figure"]

_makers: dict[str, Callable[..., Any]] = {}


def register_figure(kind: str, maker: Callable[..., Any]) -> None:
    """Have `maker` called with what is to be drawn, and options, for this kind of figure.

    Parameters
    ----------
    kind : str
        What is drawn and how, such as ``"monitor.speed"``; a kind that is there is replaced.
    maker : callable
        Returns a Plotly figure.
    """
    _makers[kind] = maker


def figure_kinds(subject: str) -> list[str]:
    """Return the kinds of figures there are of a subject ("monitor"), without its name."""
    return sorted(kind.partition(".")[2] for kind in _makers if kind.startswith(f"{subject}."))


def make_figure(kind: str, what: Any, **options: Any) -> Any:
    """Draw.

    Raises
    ------
    InvalidValueError
        There is no such kind of figure.
    MissingDependencyError
        Plotly is not installed.
    """
    maker = _makers.get(kind)
    if maker is None:
        subject, _, name = kind.partition(".")
        known = ", ".join(figure_kinds(subject)) or "none, until gguf_widgets itself is imported"
        raise InvalidValueError(f"There is no figure {name!r:.40}; there are: {known}.", value=name)
    return maker(what, **options)
