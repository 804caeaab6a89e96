"""Shows how far a run is while somebody waits for it: a bar in a notebook, a line in a terminal.

Promises: it shows where somebody can see it and is silent elsewhere (a script whose output goes to
a file); one line that is drawn over, not hundreds; at the end it says what came of the run. Leaves
to others: the figures (`progress`), the widget (`BatchTable`).
"""

from __future__ import annotations

import html
import sys
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from gguf_widgets.batch.progress import Progress
from gguf_widgets.core.format import format_duration
from gguf_widgets.core.store.batch_types import RunStatus

__all__ = ["Shown", "as_html", "as_text"]


class _Run(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def progress(self) -> Progress: ...


class Shown:
    """Shows a run's progress until it is left; use it as a context manager.

    Parameters
    ----------
    run : BatchRun
    wanted : bool or None
        None is where somebody can see it.
    terminal : file, optional
        Default: standard error.
    """

    def __init__(self, run: _Run, wanted: bool | None, terminal: TextIO | None = None) -> None:
        self._run = run
        self._terminal = terminal if terminal is not None else sys.stderr
        self._handle: Any = None
        self._last = ""
        self._kind = _place(wanted, self._terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        progress = self._run.progress
        self.update(progress)
        if self._kind == "terminal" and self._last:
            print(file=self._terminal)
        if progress.counts.waiting and self._kind:
            again = f"gguf_widgets.resume({self._run.id[:8]!r})"
            left = f"{progress.counts.waiting:,} rows are left. To go on with them: {again}"
            print(left, file=self._terminal if self._kind == "terminal" else sys.stdout)

    def update(self, progress: Progress) -> None:
        """Show this."""
        if self._kind == "notebook":
            self._draw(as_html(progress))
        elif self._kind == "terminal":
            text = as_text(progress)
            print("\r" + text.ljust(len(self._last)), end="", file=self._terminal, flush=True)
            self._last = text

    def _draw(self, content: str) -> None:
        if content == self._last:
            return
        self._last = content
        shown: Any = sys.modules["IPython.display"]  # it is there: this is a notebook
        if self._handle is None:
            self._handle = shown.display(shown.HTML(content), display_id=True)
        else:
            self._handle.update(shown.HTML(content))


def as_text(progress: Progress) -> str:
    """Return one line."""
    text = str(progress)
    if progress.status is not RunStatus.RUNNING and progress.elapsed_s:
        text += f", after {format_duration(progress.elapsed_s)}"
    return f"{progress.fraction:4.0%}  {text}"


def as_html(progress: Progress) -> str:
    """Return a bar and the line under it; colours are the notebook's."""
    failed = progress.counts.failed / max(1, progress.counts.total)
    good = progress.fraction - failed
    label = html.escape(as_text(progress).strip())
    bar = "height:100%;display:inline-block;vertical-align:top;"
    return (
        f'<div role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{progress.fraction * 100:.0f}" aria-label="{label}" '
        'style="height:6px;max-width:480px;margin:4px 0;overflow:hidden;border-radius:3px;'
        'background:var(--jp-border-color2,#e0e0e0);font-size:0">'
        f'<span style="{bar}width:{good:.2%};background:var(--jp-brand-color1,#1976d2)"></span>'
        f'<span style="{bar}width:{failed:.2%};background:var(--jp-error-color1,#d32f2f)"></span>'
        f"</div><div>{label}</div>"
    )


def _place(wanted: bool | None, terminal: TextIO) -> str:
    if wanted is False:
        return ""
    # Whoever runs in a notebook has loaded it; nobody else needs it.
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is not None and "IPython.display" in sys.modules:
        return "notebook"
    return "terminal" if wanted or terminal.isatty() else ""
