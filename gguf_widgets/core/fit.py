"""Will a model fit this machine's memory, and which settings suit both.

Promises: an estimate in bytes from the header alone; a refusal that names the numbers and what
would fit; settings with a reason for each that a person might not expect. Leaves to others: the
figures (`fit_layers`, `fit_compute`, `fit_estimate`), the machine's limits (`fit_machine`), the
cards (`devices`), the loading.

This is the face of the ``fit_*`` files; each of them is about one thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gguf_widgets.core import fit_choose, fit_options
from gguf_widgets.core.devices import Device
from gguf_widgets.core.errors import NotEnoughMemoryError
from gguf_widgets.core.fit_estimate import Correction, Footprint, MemoryEstimate
from gguf_widgets.core.fit_machine import free_memory, usable_cores
from gguf_widgets.core.fit_options import SMALLEST_CTX, FitOption, Room, fits
from gguf_widgets.core.fit_place import room_on
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.gguf import GgufHeader
from gguf_widgets.core.types import LoadSettings

__all__ = [
    "SMALLEST_CTX",
    "Correction",
    "FitOption",
    "MemoryEstimate",
    "check_fits",
    "choose_settings",
    "estimate",
    "free_memory",
    "largest_context",
    "options",
    "usable_cores",
]


def estimate(
    header: GgufHeader,
    settings: LoadSettings,
    *,
    gpus: Sequence[Device] = (),
    correction: Correction | None = None,
) -> MemoryEstimate:
    """Estimate the memory that a model takes with some settings.

    Parameters
    ----------
    header : GgufHeader
    settings : LoadSettings
        None in a field means what `choose_settings` takes when nothing hinders it.
    gpus : sequence of Device, optional
        Graphics cards that take their share; see `devices.devices`.
    correction : Correction, optional
        What this machine has learned; see `fit_history`.

    Raises
    ------
    MalformedHeaderError
        If the header's numbers cannot be used.
    """
    return Footprint(header, gpus, correction).estimate(settings)


def check_fits(
    header: GgufHeader,
    settings: LoadSettings,
    *,
    free_bytes: int | None = None,
    gpus: Sequence[Device] = (),
    correction: Correction | None = None,
) -> MemoryEstimate:
    """Return the estimate if it fits, else raise with what is missing and what would fit.

    Parameters
    ----------
    header : GgufHeader
    settings : LoadSettings
    free_bytes : int, optional
        Free main memory. Default: `free_memory`.
    gpus : sequence of Device, optional
        Graphics cards that take their share.
    correction : Correction, optional

    Raises
    ------
    NotEnoughMemoryError
        Details: ``needed_bytes``, ``free_bytes`` (in main memory, and on cards together),
        ``fitting_n_ctx`` (the context that would fit with everything else as it is; None if none
        does), ``options`` (all that `options` returns, best first) and ``places`` (for main memory
        and each card its ``name``, ``needed_bytes`` and ``free_bytes``).
    """
    footprint = Footprint(header, gpus, correction)
    free = free_memory() if free_bytes is None else free_bytes
    room = Room(free)
    need = footprint.estimate(settings)
    if fits(footprint, need, room):
        return need
    found = fit_options.options(footprint, settings, room)
    places = _places(footprint, need, free)
    raise NotEnoughMemoryError(
        f"{_what_is_missing(places)} {_advice(found)}",
        needed_bytes=need.total_bytes,
        free_bytes=free + sum(room_on(gpu) or 0 for gpu in footprint.gpus if not gpu.integrated),
        fitting_n_ctx=next((o.settings.n_ctx for o in found if list(o.changes) == ["n_ctx"]), None),
        options=[option.to_dict() for option in found],
        places=[place._asdict() for place in places],
    )


def options(
    header: GgufHeader,
    settings: LoadSettings,
    *,
    free_bytes: int | None = None,
    gpus: Sequence[Device] = (),
    correction: Correction | None = None,
) -> list[FitOption]:
    """Return what would fit instead of these settings, best first; see `fit_options`.

    Parameters are those of `check_fits`.
    """
    free = free_memory() if free_bytes is None else free_bytes
    return fit_options.options(Footprint(header, gpus, correction), settings, Room(free))


def choose_settings(
    header: GgufHeader,
    requested: LoadSettings | None = None,
    *,
    free_bytes: int | None = None,
    n_cores: int | None = None,
    gpus: Sequence[Device] = (),
) -> tuple[LoadSettings, list[str]]:
    """Fill in what was not asked for, to suit this model and this machine.

    What was asked for is kept as it is. `chat_template`, `flash_attn` and `mmproj` stay None unless
    they were asked for: the model's own, llama.cpp's own choice, and none.

    Parameters
    ----------
    header : GgufHeader
    requested : LoadSettings, optional
    free_bytes, n_cores : int, optional
        Default: `free_memory` and `usable_cores`.
    gpus : sequence of Device, optional

    Returns
    -------
    settings : LoadSettings
    notes : list of str
        Sentences for the person: what was chosen differently from what they might expect, and why.

    Raises
    ------
    InvalidValueError
        If settings that were asked for exclude each other.
    """
    return fit_choose.choose(
        Footprint(header, gpus),
        LoadSettings() if requested is None else requested,
        free_bytes=free_memory() if free_bytes is None else free_bytes,
        n_cores=usable_cores() if n_cores is None else n_cores,
    )


def largest_context(
    header: GgufHeader,
    settings: LoadSettings,
    free_bytes: int,
    *,
    most: int,
    gpus: Sequence[Device] = (),
) -> int | None:
    """Return the longest context up to `most` tokens with which a model fits; None if none does."""
    footprint = Footprint(header, gpus)
    return fit_options.largest_context(footprint, settings, Room(free_bytes), most=most)


class _Place(NamedTuple):
    """Main memory or a card: what is needed there, and free as far as it is known."""

    name: str
    where: str
    needed_bytes: int
    free_bytes: int | None


def _places(footprint: Footprint, need: MemoryEstimate, free: int) -> list[_Place]:
    room = {gpu.name: room_on(gpu) for gpu in footprint.gpus}
    return [
        _Place("main memory", "of main memory", need.main_bytes, free),
        *(
            _Place(name, f"on the graphics card {name}", size, room[name])
            for name, size in need.gpu_bytes
        ),
    ]


def _what_is_missing(places: list[_Place]) -> str:
    """Say the numbers of the places that are too small."""
    short = [p for p in places if p.free_bytes is not None and p.needed_bytes > p.free_bytes]
    if len(places) == 1:
        return (
            f"This model needs {format_bytes(places[0].needed_bytes)} and "
            f"{format_bytes(places[0].free_bytes or 0)} is free."
        )
    parts = [
        f"{format_bytes(place.needed_bytes)} {place.where}, where "
        f"{format_bytes(place.free_bytes or 0)} is free"
        for place in short
    ]
    return f"This model needs {', and '.join(parts)}."


def _advice(found: list[FitOption]) -> str:
    if not found:
        return (
            "Close other programs, or choose a smaller model, or a smaller version of this one "
            "(such as Q4_K_M)."
        )
    best = found[0].sentence
    # A second is worth saying if it is another way, and not more of the same.
    other = next((o for o in found[1:] if not found[0].changes.keys() & o.changes.keys()), None)
    return f"It would fit {best}{f', or {other.sentence}' if other else ''}."
