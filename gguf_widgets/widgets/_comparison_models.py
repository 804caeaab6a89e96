"""The models that a side can be, and whether memory holds those that were chosen.

Promises: those of this machine and those that a notebook gave are one list; what is told of memory
is an estimate and says so, and loading judges again; looking takes a while and is for a thread of
its own. Leaves to others: finding models (`core.library`), figures (`core.fit`), loading.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gguf_widgets.compare.sides import Side
from gguf_widgets.core import fit
from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.gguf import read_header
from gguf_widgets.core.library import ModelEntry
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.settings import LoadSettings
from gguf_widgets.widgets._picker_rows import fit_view

__all__ = ["Models", "given_key"]

_GIVEN: Final = "given:"
_LETTERS: Final = "ABCD"


def given_key(number: int) -> str:
    """Return the key of the model that was given in this place."""
    return f"{_GIVEN}{number}"


class Models:
    """What can be chosen.

    Parameters
    ----------
    manager : ModelManager
        Whose library is listed.
    given : sequence of Side
        What a notebook gave; those that are named as in the library count as that.
    """

    def __init__(self, manager: ModelManager, given: Sequence[Side]) -> None:
        self._manager = manager
        self._given = list(given)
        self._entries: dict[str, ModelEntry] = {}
        self._running: set[str] = set()
        self._needs: dict[tuple[str, str], int | None] = {}
        self.has_looked = False

    def look(self) -> None:
        """List the library anew; what was known of memory is asked again."""
        entries = [
            one
            for one in self._manager.library.entries()
            if one.kind == "model" and one.error is None and "embeddings" not in one.capabilities
        ]
        found = {one.name: one for one in entries}
        # Each is judged here once: it costs some milliseconds, and nobody waits for this thread.
        running = {name for name in found if self._manager.is_running(name)}
        self._entries, self._running, self._needs = found, running, {}
        self.has_looked = True

    def embedders(self) -> list[str]:
        """Return the names of all usable models, those that are made for vectors first."""
        found = [
            one
            for one in self._manager.library.entries()
            if one.kind == "model" and one.error is None
        ]
        found.sort(key=lambda one: "embeddings" not in one.capabilities)
        return [one.name for one in found]

    def choices(self) -> dict[str, Side]:
        """Return what each key stands for."""
        own = {name: Side(name) for name in self._entries}
        return {**{given_key(i): side for i, side in enumerate(self._given)}, **own}

    def view(self) -> list[dict[str, Any]]:
        """Return the list for the page."""
        given = [self._given_row(number, side) for number, side in enumerate(self._given)]
        return [*given, *(self._row(entry) for entry in self._entries.values())]

    def _given_row(self, number: int, side: Side) -> dict[str, Any]:
        row = {"key": given_key(number), "name": _name_of(side)}
        entry = self._entries.get(side.model) if isinstance(side.model, str) else None
        if entry is not None:  # it is one of this machine's, by its name
            return {**self._row(entry), **row}
        is_loaded = isinstance(side.model, Model) and side.model.loaded
        return {**row, "words": _given_words(side), "fit": None, "isLoaded": is_loaded}

    def _row(self, entry: ModelEntry) -> dict[str, Any]:
        info, judged = entry.info, entry.machine.judged(entry.path)
        words = f"{info.quantization} · {format_bytes(info.size_bytes)}" if info is not None else ""
        is_loaded = entry.name in self._running
        shown = None if judged is None or is_loaded else fit_view(judged)
        return {
            "key": entry.name,
            "name": entry.name,
            "words": words,
            "fit": shown,
            "isLoaded": is_loaded,
        }

    def judge(self, names: Sequence[str]) -> None:
        """Find out whether these fit; it may take a while for each."""
        for name in names:
            choice = self.choices().get(name)
            entry = self._entries.get(str(choice.model)) if choice is not None else None
            if entry is not None:
                _ = entry.fit  # it is kept with the list

    def together(self, sides: Sequence[Side]) -> dict[str, str]:
        """Say whether memory holds all sides at once.

        Returns
        -------
        dict
            ``verdict``: "yes", "no" (one after another), "never" (one alone is too large) or
            "unknown"; ``words`` for the page.
        """
        wanted: dict[tuple[str, str], tuple[str, Mapping[str, Any]]] = {}
        for side in sides:
            name = side.model if isinstance(side.model, str) else os.fspath(_path_of(side))
            wanted.setdefault((name, repr(sorted(side.load.items()))), (name, side.load))
        new = [
            (name, load)
            for name, load in wanted.values()
            if name in self._entries and not (name in self._running and not load)
        ]
        if not new:
            return {"verdict": "yes", "words": ""}
        needs = [self._need(name, load) for name, load in new]
        free = fit.free_memory()
        if any(one is None for one in needs):
            return {"verdict": "unknown", "words": ""}
        known = [one for one in needs if one is not None]
        total, said = sum(known), f"{format_bytes(free)} of memory is free"
        largest = max(known)
        if largest > free:
            name = plain_text(new[known.index(largest)][0], 60)
            return {
                "verdict": "never",
                "words": f"“{name}” needs about {format_bytes(largest)}, and {said}. The other "
                "sides can answer without it.",
            }
        if len(known) == 1:
            what = "Both sides are one model" if len(sides) == 2 else "All sides are one model"
            if len(wanted) > 1:
                what = "One more model is to be loaded"
            return {"verdict": "yes", "words": f"{what}: about {format_bytes(total)}; {said}."}
        many = "Both models" if len(known) == 2 else f"All {len(known)} models"
        if total <= free:
            return {
                "verdict": "yes",
                "words": f"{many} fit into memory together: about {format_bytes(total)}; {said}.",
            }
        return {
            "verdict": "no",
            "words": f"{many} together need about {format_bytes(total)}, and {said}: they are "
            "loaded and answer one after another.",
        }

    def _need(self, name: str, load: Mapping[str, Any]) -> int | None:
        """Return about how many bytes a model takes with these settings."""
        key = name, repr(sorted(load.items()))
        if key not in self._needs:
            entry = self._entries[name]
            try:
                if not load:
                    judged = entry.fit
                    self._needs[key] = judged.needed_bytes if judged is not None else None
                else:
                    header = read_header(entry.path)
                    wanted = LoadSettings.from_keywords(**load)
                    cards = entry.machine.cards()
                    chosen, _ = fit.choose_settings(header, wanted, gpus=cards)
                    self._needs[key] = fit.estimate(header, chosen, gpus=cards).total_bytes
            except GgufWidgetsError:
                self._needs[key] = None  # loading says what is wrong
        return self._needs[key]


def _path_of(side: Side) -> str:
    return str(side.model.path) if isinstance(side.model, Model) else os.fspath(side.model)


def _name_of(side: Side) -> str:
    if side.label:
        return plain_text(side.label, 60)
    if isinstance(side.model, Model):
        return plain_text(side.model.name, 60)
    return plain_text(Path(side.model).name, 60)


def _given_words(side: Side) -> str:
    if isinstance(side.model, Model):
        info = side.model.info
        if info.backend == "scripted":
            return "demo mode"
        state = "loaded" if side.model.loaded else "not loaded any more"
        return f"{info.quantization} · {format_bytes(info.size_bytes)} · {state}"
    return "from the notebook"
