"""Whether a listed model fits this machine: yes, with these settings, or no.

Promises: the answer of `fit`, for the settings that a load without any would choose; free memory,
graphics cards and what earlier loads taught are asked for once for a whole list, and only when
somebody wants to know. Leaves to others: every figure (`fit`). The load itself judges again, with
the memory that is free then and what is promised to other loads under way.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from gguf_widgets.core.errors import (
    DeviceQueryError,
    GgufWidgetsError,
    MissingDependencyError,
    NotEnoughMemoryError,
)

if TYPE_CHECKING:
    from gguf_widgets.core.devices import Device
    from gguf_widgets.core.fit_history import LoadRecord
    from gguf_widgets.core.types import LoadSettings

__all__ = ["VERDICTS", "Fit", "Machine"]

Verdict = Literal["yes", "with these settings", "no", "unknown"]
VERDICTS: Final[tuple[Verdict, ...]] = ("yes", "with these settings", "no", "unknown")

# What may come out smaller for want of memory; the rest follows from these.
_TOLD: Final = ("n_ctx", "n_gpu_layers", "n_seq_max", "type_k", "type_v")
_PLENTY: Final = 1 << 60


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model fits.

    Attributes
    ----------
    verdict : {"yes", "with these settings", "no", "unknown"}
        "yes": as it would be loaded without any settings, nothing has to be made smaller for it.
        "unknown": its file could not be read just now.
    settings : dict
        The settings with which it fits, where they differ from those; {} for the other verdicts.
    needed_bytes : int or None
        What it takes with these settings, everywhere together; for "no", what it would take.
    free_bytes : int
        Of main memory, when the list was judged.
    reason : str
        A sentence for "no" and "unknown", else "".
    """

    verdict: Verdict
    settings: dict[str, Any] = {}
    needed_bytes: int | None = None
    free_bytes: int = 0
    reason: str = ""

    @property
    def fits(self) -> bool:
        """Whether it can be loaded, with smaller settings if need be."""
        return self.verdict in ("yes", "with these settings")

    def __str__(self) -> str:
        if self.verdict != "with these settings":
            return self.verdict
        said = [
            f"{k}={v:,}" if isinstance(v, int) else f"{k}={v}" for k, v in self.settings.items()
        ]
        return f"with {', '.join(said)}"


class Machine:
    """The machine as one list of models sees it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._facts: tuple[int, list[Device], list[LoadRecord]] | None = None
        self._fits: dict[Path, Fit] = {}

    def cards(self) -> list[Device]:
        """Return the graphics cards; none where only the main memory can be known."""
        return self._asked()[1]

    def judged(self, path: Path) -> Fit | None:
        """Return what `fit` has found already; None if it was not asked."""
        with self._lock:
            return self._fits.get(path)

    def fit(self, path: Path) -> Fit:
        """Judge a model file, which is read for it; the answer is kept."""
        known = self.judged(path)
        if known is not None:
            return known
        free, cards, records = self._asked()
        try:
            found = _fit(path, free, cards, records)
        except GgufWidgetsError as error:
            found = Fit(verdict="unknown", free_bytes=free, reason=error.message)
        with self._lock:
            return self._fits.setdefault(path, found)

    def _asked(self) -> tuple[int, list[Device], list[LoadRecord]]:
        from gguf_widgets.core import fit, fit_history
        from gguf_widgets.core.devices import graphics_cards

        with self._lock:
            if self._facts is None:
                try:
                    cards = graphics_cards()
                except (MissingDependencyError, DeviceQueryError):
                    cards = []  # judged by the main memory alone, as the load itself is then
                self._facts = (fit.free_memory(), cards, fit_history.read()[0])
            return self._facts


def _fit(path: Path, free: int, cards: Sequence[Device], records: list[LoadRecord]) -> Fit:
    from gguf_widgets.core import fit, fit_history
    from gguf_widgets.core.gguf import read_header

    header = read_header(path)
    wanted, _ = fit.choose_settings(header, free_bytes=_PLENTY, gpus=_with_plenty(cards))
    chosen, _ = fit.choose_settings(header, free_bytes=free, gpus=cards)
    correction = fit_history.correction_for(header, chosen, cards, records)
    try:
        need = fit.check_fits(header, chosen, free_bytes=free, gpus=cards, correction=correction)
    except NotEnoughMemoryError as error:
        options = error.details["options"]
        if not options:
            return Fit(
                verdict="no",
                needed_bytes=error.details["needed_bytes"],
                free_bytes=free,
                reason=error.message,
            )
        best = options[0]
        settings = {**_smaller(wanted, chosen), **best["changes"]}
        return Fit(
            verdict="with these settings",
            settings=settings,
            needed_bytes=best["total_bytes"],
            free_bytes=free,
        )
    settings = _smaller(wanted, chosen)
    return Fit(
        verdict="with these settings" if settings else "yes",
        settings=settings,
        needed_bytes=need.total_bytes,
        free_bytes=free,
    )


def _smaller(wanted: LoadSettings, chosen: LoadSettings) -> dict[str, Any]:
    return {
        name: getattr(chosen, name)
        for name in _TOLD
        if getattr(chosen, name) != getattr(wanted, name)
    }


def _with_plenty(cards: Sequence[Device]) -> list[Device]:
    return [msgspec.structs.replace(card, memory_free_bytes=_PLENTY) for card in cards]
