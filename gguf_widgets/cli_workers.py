"""The commands ``ps`` and ``stop``: which models run on this machine, and ending one.

Promises: each returns what is to be printed and the exit status; an ambiguous name ends nothing.
Leaves to others: looking and stopping (`core.workers`), printing (`cli`).
"""

from __future__ import annotations

import json

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.worker_facts import Worker
from gguf_widgets.core.workers import WorkerList, matching, workers

__all__ = ["ps", "stop"]

_REASON = 'it was ended with "gguf-widgets stop"'
_NOTHING = "No model is running, so there is nothing to stop."


def ps(*, as_json: bool) -> str:
    """Return the table of the workers, or the same for programs."""
    listed = workers()
    return json.dumps(listed.to_dicts(), indent=2) if as_json else repr(listed)


def stop(text: str | None, *, every: bool) -> tuple[str, int]:
    """End one worker, or all; return what to print, and the exit status.

    Parameters
    ----------
    text : str or None
        A process, a model's name or file, or a worker's name; None is the only one that runs.
    every : bool

    Raises
    ------
    InvalidValueError
        If nothing, or more than one, is meant by it.
    """
    if every and text is not None:
        raise InvalidValueError(f"Either one model ({text}) or --all can be stopped, not both.")
    listed = workers()
    if not listed and text is None:
        return _NOTHING, 0
    results = [worker.stop(_REASON) for worker in _meant(listed, text, every=every)]
    text_out = "\n".join(str(result) for result in results)
    return text_out, 0 if all(result.ended for result in results) else 1


def _meant(listed: WorkerList, text: str | None, *, every: bool) -> list[Worker]:
    if every:
        return list(listed)
    found = list(listed) if text is None else matching(listed, text)
    if len(found) == 1:
        return found
    if not found:
        raise InvalidValueError(
            f"No running model is called {text!r}. "
            + (f"These are running:\n\n{listed!r}" if listed else "None is running at all.")
        )
    which = "models are running" if text is None else f"running models are called {text!r}"
    raise InvalidValueError(
        f"{len(found)} {which}. Give the number of one process, or --all:\n\n{WorkerList(found)!r}"
    )
