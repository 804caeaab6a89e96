"""What the list of models shows: pure functions from facts to plain data.

Promises: every value is a text or a number for the page to set as text; an entry that cannot be
used has its reason and no button; not enough memory comes with the ways out. Leaves to others:
finding, judging and loading models.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gguf_widgets.core.errors import GgufWidgetsError, NotEnoughMemoryError
from gguf_widgets.core.format import format_bytes, format_count, format_duration
from gguf_widgets.core.library import ModelEntry
from gguf_widgets.core.library.judge import Fit
from gguf_widgets.core.library.sources import TITLES
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import LoadSettings
from gguf_widgets.widgets._words import ErrorView, error_view

__all__ = [
    "CAPABILITIES",
    "SETTINGS",
    "Loading",
    "field_views",
    "fit_view",
    "loaded_with",
    "row_view",
]

Content = dict[str, Any]

# The settings a person may want: (name, label, what it does). The rest is for code.
SETTINGS = (
    (
        "n_ctx",
        "Context length",
        (
            "How many tokens the conversation may fill, question and answer together (n_ctx). "
            "A longer one needs more memory."
        ),
    ),
    (
        "n_threads",
        "Processor threads",
        "How many processor cores compute (n_threads). More than there are makes it slower.",
    ),
    (
        "n_gpu_layers",
        "Layers on the graphics card",
        "How many of the model's layers the graphics card holds (n_gpu_layers); -1 is all.",
    ),
)

# What a model can do: (as `ModelEntry.capabilities` has it, in words).
CAPABILITIES = (
    ("vision", "Sees images"),
    ("audio", "Hears"),
    ("tools", "Uses tools"),
    ("reasoning", "Thinks first"),
    ("embeddings", "Texts to vectors"),
)

_LEFT_AFTER_S = 2.0  # an estimate from less is a guess
_LEFT_FROM = 0.03


class Loading:
    """One load on its way: how far, and about how long still.

    Parameters
    ----------
    path : str
    clock : callable
        Seconds; `time.monotonic`, or a test's.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.fraction = 0.0
        self.phrase = "Starting"
        self.cancelled = False
        self._clock = clock
        self._started = clock()

    def report(self, fraction: float, phrase: str) -> bool:
        """Take what the manager reports; the answer False cancels the load."""
        self.fraction, self.phrase = min(1.0, max(0.0, fraction)), phrase
        return not self.cancelled

    def left(self) -> str:
        """Return about how long it still takes, in words; "" while it cannot be told."""
        elapsed = self._clock() - self._started
        if elapsed < _LEFT_AFTER_S or not _LEFT_FROM <= self.fraction < 1:
            return ""
        left = elapsed * (1 - self.fraction) / self.fraction
        words = f"{max(1, round(left))} s" if left < 60 else format_duration(left)
        return f"about {words} left"

    def view(self) -> Content:
        """Return it as the page shows it."""
        return {
            "path": self.path,
            "fraction": self.fraction,
            "phrase": "Stopping" if self.cancelled else self.phrase,
            "left": self.left(),
        }


def row_view(
    entry: ModelEntry,
    *,
    status: str,
    chosen: bool,
    failure: GgufWidgetsError | None,
    model: Model | None,
    fit: Fit | None = None,
) -> Content:
    """Return one row of the list.

    Parameters
    ----------
    entry : ModelEntry
    status : {"idle", "loading", "loaded"}
    chosen : bool
        Whether it is the one that a person would load next.
    failure : GgufWidgetsError or None
        Why its last load failed.
    model : Model or None
        The model that is loaded now, this one or another.
    fit : Fit or None
        Whether it fits, if that is known already.
    """
    error = entry.error or failure
    info = entry.info
    return {
        "path": str(entry.path),
        "name": entry.name,
        "lines": _lines(entry),
        "fit": fit_view(fit) if fit is not None and status == "idle" else None,
        "words": _words(entry),
        "can": list(entry.capabilities),
        "sources": _sources(entry),
        "size": info.size_bytes if info is not None else 0,
        "parameters": info.num_parameters if info is not None else 0,
        "used": entry.last_used.timestamp() if entry.last_used is not None else 0,
        "title": str(entry.path),
        "usable": entry.error is None,
        "status": status,
        "chosen": chosen,
        "error": _short(error_view(error), entry) if error is not None else None,
        "demo": model is not None and model.info.backend == "scripted",
        "notes": model.load_notes if model is not None and status == "loaded" else [],
        "offers": _offers(failure, model.name if model is not None else None)
        if entry.error is None
        else [],
    }


def _lines(entry: ModelEntry) -> list[str]:
    info = entry.info
    if info is None:
        return []
    can = [label for key, label in CAPABILITIES if key in entry.capabilities]
    other = [name for name in _sources(entry) if name not in ("demo", "models folder")]
    lines = [
        f"{format_count(info.num_parameters)} parameters · {info.quantization}",
        f"{format_bytes(info.size_bytes)} · {info.n_ctx_train:,} tokens of context",
    ]
    if can or other:
        lines.append(" · ".join([*can, *(f"in {name}" for name in other)]))
    return lines


def _sources(entry: ModelEntry) -> list[str]:
    """Return where it is known, in words, once each."""
    programs = [place.program for place in entry.places] or [entry.program]
    names = (TITLES.get(program, program) for program in programs if program != "folder")
    return list(dict.fromkeys([*names, *(["added folders"] if "folder" in programs else [])]))


def _words(entry: ModelEntry) -> str:
    """Return what is searched, in small letters: what `ModelList.search` looks at, and more."""
    info = entry.info
    said = [info.name, info.architecture, info.quantization] if info is not None else []
    if info is not None:
        said.append(format_count(info.num_parameters))
    labels = [place.label for place in entry.places]
    parts = [entry.name, entry.path.name, *said, *labels, *_sources(entry)]
    return " ".join(parts).casefold()


def fit_view(fit: Fit) -> Content:
    """Return whether it fits, in a few words and a sentence."""
    need = format_bytes(fit.needed_bytes) if fit.needed_bytes is not None else "?"
    sentence = f"It needs {need}, and {format_bytes(fit.free_bytes)} of memory is free."
    if fit.verdict == "yes":
        return {"verdict": "yes", "text": "Fits", "title": sentence}
    if fit.verdict == "with these settings":
        n_ctx = fit.settings.get("n_ctx")
        text = "Fits with smaller settings"
        if isinstance(n_ctx, int):
            text = f"Fits with {n_ctx:,} tokens of context"
        chosen = ", ".join(f"{name}={value}" for name, value in fit.settings.items())
        return {"verdict": "some", "text": text, "title": f"{sentence} With {chosen}."}
    if fit.verdict == "no":
        return {"verdict": "no", "text": f"Too large: needs {need}", "title": fit.reason}
    return {"verdict": "unknown", "text": "", "title": fit.reason}


def _short(view: ErrorView, entry: ModelEntry) -> ErrorView:
    """Say "this file" for its name, which stands right above the reason."""
    name = f'"{entry.path.name}" '
    if not view["text"].startswith(name):
        return view
    return {**view, "text": f"This file {view['text'].removeprefix(name)}"}


def _offers(failure: GgufWidgetsError | None, loaded_name: str | None) -> list[Content]:
    if not isinstance(failure, NotEnoughMemoryError):
        return []
    offers: list[Content] = []
    fitting = failure.details.get("fitting_n_ctx")
    if loaded_name is not None:
        label = f"Unload {loaded_name} and load"
        offers.append({"label": label, "settings": {}, "force": False, "first": True})
    if isinstance(fitting, int) and fitting > 0:
        label = f"Load with {fitting:,} tokens"
        offers.append({"label": label, "settings": {"n_ctx": fitting}, "force": False})
    offers.append({"label": "Load anyway", "settings": {}, "force": True})
    return offers


def field_views(
    remembered: dict[str, Any], entry: ModelEntry | None, *, has_gpu: bool
) -> list[Content]:
    """Return the fields under "Settings"."""
    trained = entry.info.n_ctx_train if entry is not None and entry.info is not None else None
    hints = {"n_ctx": f"up to {trained:,}" if trained else "automatic"}
    return [
        {
            "name": name,
            "label": label,
            "value": remembered.get(name),
            "hint": hints.get(name, "automatic"),
            "title": title,
            "shown": name != "n_gpu_layers" or has_gpu,
        }
        for name, label, title in SETTINGS
    ]


def loaded_with(settings: LoadSettings, *, has_gpu: bool) -> str:
    """Return in a sentence what a model was loaded with."""
    parts = []
    if settings.n_ctx is not None:
        each = " for each reply" if settings.kv_unified is False else ""
        parts.append(f"{settings.n_ctx:,} tokens of context{each}")
    if settings.n_threads is not None:
        parts.append("1 thread" if settings.n_threads == 1 else f"{settings.n_threads} threads")
    if settings.n_seq_max is not None:
        replies = "1 reply" if settings.n_seq_max == 1 else f"up to {settings.n_seq_max} replies"
        parts.append(f"{replies} at once")
    if has_gpu and settings.n_gpu_layers is not None:
        layers = "all" if settings.n_gpu_layers < 0 else str(settings.n_gpu_layers)
        parts.append(f"{layers} layers on the graphics card")
    return f"Loaded with {', '.join(parts)}." if parts else ""
