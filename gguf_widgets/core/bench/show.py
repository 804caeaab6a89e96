"""Shows how far a measurement is while somebody waits for it.

Promises: a bar in a notebook; in a terminal one line that is drawn over; where neither is, nothing,
or, if it is asked for, a line now and then; notes and failures are said once, when they happen.
Leaves to others: the figures (`progress`).
"""

from __future__ import annotations

import html
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any, Final, Self, TextIO

from gguf_widgets.core.bench.progress import Progress
from gguf_widgets.core.format import plain_text

__all__ = ["Shown", "as_html"]

_LINE_EVERY_S: Final = 10.0
_MOST_CHARACTERS: Final = 2000


class Shown:
    """Shows progress until it is left; use it as a context manager.

    Parameters
    ----------
    wanted : bool or None
        None is where somebody can see it; True also where the output goes to a file.
    stream : file, optional
        Default: standard error.
    """

    def __init__(self, wanted: bool | None = None, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._live = self._stream.isatty()
        self._notebook = wanted is not False and _in_notebook()
        self._on = wanted is True or (wanted is None and (self._live or self._notebook))
        self._handle: Any = None
        self._width = 0
        self._last = ""
        self._said_at = time.monotonic()
        self._num_said = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._on and not self._notebook:
            self._clear()

    def update(self, progress: Progress, said: Sequence[str] = ()) -> None:
        """Show how far it is; of `said`, what is new is said in full."""
        if not self._on:
            return
        new, self._num_said = said[self._num_said :], len(said)
        if self._notebook:
            self._draw(as_html(progress))  # notes are in the result's own table
            return
        for sentence in new:
            self._clear()
            self._stream.write(f"{plain_text(sentence, _MOST_CHARACTERS)}\n")
        text = f"{progress.fraction:4.0%}  {plain_text(str(progress), 500)}"
        if self._live:
            text = text[: max(20, shutil.get_terminal_size().columns - 1)]
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        elif text != self._last and time.monotonic() - self._said_at >= _LINE_EVERY_S:
            self._stream.write(f"{text}\n")
            self._said_at, self._last = time.monotonic(), text
        self._stream.flush()

    def _clear(self) -> None:
        if self._live and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0

    def _draw(self, content: str) -> None:
        if content == self._last:
            return
        self._last = content
        shown: Any = sys.modules["IPython.display"]  # it is there: this is a notebook
        if self._handle is None:
            self._handle = shown.display(shown.HTML(content), display_id=True)
        else:
            self._handle.update(shown.HTML(content))


def as_html(progress: Progress) -> str:
    """Return a bar and the line under it; colours are the notebook's."""
    label = html.escape(f"{progress.fraction:.0%}  {progress}")
    return (
        f'<div role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{progress.fraction * 100:.0f}" aria-label="{label}" '
        'style="height:6px;max-width:480px;margin:4px 0;overflow:hidden;border-radius:3px;'
        'background:var(--jp-border-color2,#e0e0e0);font-size:0">'
        f'<span style="height:100%;display:inline-block;width:{progress.fraction:.2%};'
        'background:var(--jp-brand-color1,#1976d2)"></span>'
        f"</div><div>{label}</div>"
    )


def _in_notebook() -> bool:
    # Whoever runs in a notebook has loaded it; nobody else needs it.
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None and "IPython.display" in sys.modules
