"""Which settings would make a model fit that does not fit as it is asked for.

Promises: every option that is listed fits, by the same figures by which the request did not; the
first ones cost the person least. Leaves to others: taking one (whoever asks), the figures
(`fit_estimate`).

The order, and why
------------------
1. One KV cache for all sequences, where each was to have its own: the same answers.
2. KV cache in 8 bits ("q8_0"): the whole context, at full speed; answers differ hardly.
3. Flash attention, where it was switched off: the same answers.
4. Fewer sequences at once, where each keeps a state: less at the same time, the same answers.
5. Fewer layers on the graphics card, as long as half of them stay there: slower.
6. A shorter context: the model forgets sooner.
7. Two of these together; an 8-bit cache makes a context nearly twice as long.
8. Most or all layers in main memory: much slower, but it runs.

What is no better in anything than an option before it is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Final

from gguf_widgets.core.fit_estimate import CTX_STEP, DEFAULT_SEQ_MAX, Footprint, MemoryEstimate
from gguf_widgets.core.fit_place import room_on
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.types import LoadSettings

__all__ = ["FitOption", "Room", "fits", "largest_context", "most_gpu_layers", "options"]

# Less than this is no conversation.
SMALLEST_CTX: Final = 2048
# Nor is this of use for a table.
_LEAST_CTX: Final = 512
_EIGHT_BITS: Final = {"type_k": "q8_0", "type_v": "q8_0"}
_EIGHT_WORDS: Final = "with its KV cache in 8 bits"
_WIDE: Final = ("f16", "bf16", "f32")
_BLOCK_SIZE: Final = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """What is free.

    Attributes
    ----------
    main_bytes : int
        In main memory, for main memory alone.
    share : float
        The part of it, and of each card, that may be taken.
    """

    main_bytes: int
    share: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class FitOption:
    """Settings that would fit.

    Attributes
    ----------
    changes : dict
        What is to be set, by the names of `LoadSettings`.
    settings : LoadSettings
        All settings with these changes.
    total_bytes, main_bytes : int
        What it needs: everywhere, and in main memory.
    gpu_bytes : tuple of (str, int)
    sentence : str
        What it means, after "It would fit".
    """

    changes: dict[str, Any]
    settings: LoadSettings
    total_bytes: int
    main_bytes: int
    gpu_bytes: tuple[tuple[str, int], ...]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {
            "changes": self.changes,
            "total_bytes": self.total_bytes,
            "main_bytes": self.main_bytes,
            "gpu_bytes": dict(self.gpu_bytes),
            "sentence": self.sentence,
        }


def fits(footprint: Footprint, need: MemoryEstimate, room: Room) -> bool:
    """Say whether an estimate fits into main memory and onto each card."""
    if need.main_bytes > room.main_bytes * room.share:
        return False
    free = {gpu.name: room_on(gpu) for gpu in footprint.gpus}
    return all(
        (known := free[name]) is None or size <= known * room.share for name, size in need.gpu_bytes
    )


def largest_context(
    footprint: Footprint, settings: LoadSettings, room: Room, *, most: int
) -> int | None:
    """Return the longest context up to `most` tokens that fits; None if none does."""

    def suits(steps: int) -> bool:
        need = footprint.estimate(settings.replace(n_ctx=steps * CTX_STEP))
        return fits(footprint, need, room)

    return _largest(suits, most // CTX_STEP) * CTX_STEP or None


def most_gpu_layers(footprint: Footprint, settings: LoadSettings, room: Room) -> int | None:
    """Return the most layers on the cards with which it fits, 0 included; None if none does."""
    if not footprint.gpus:
        return None
    for count in range(footprint.layers_to_place, -1, -1):
        if fits(footprint, footprint.estimate(settings.replace(n_gpu_layers=count)), room):
            return count
    return None


def options(footprint: Footprint, settings: LoadSettings, room: Room) -> list[FitOption]:
    """Return the settings that would fit, best first; none if nothing helps.

    Parameters
    ----------
    footprint : Footprint
    settings : LoadSettings
        Those that do not fit.
    room : Room
    """
    found: list[FitOption] = []
    for changes, sentence in _candidates(footprint, settings, room):
        changed = settings.replace(**changes)
        need = footprint.estimate(changed)
        if not fits(footprint, need, room) or any(_covers(o.changes, changes) for o in found):
            continue
        found.append(
            FitOption(
                changes=changes,
                settings=changed,
                total_bytes=need.total_bytes,
                main_bytes=need.main_bytes,
                gpu_bytes=need.gpu_bytes,
                sentence=f"{sentence} ({_written(changes)}; {format_bytes(need.total_bytes)})",
            )
        )
    return found


_Candidate = tuple[dict[str, Any], str]


def _candidates(footprint: Footprint, settings: LoadSettings, room: Room) -> Iterator[_Candidate]:
    """Yield what could help, in order; whether it does is looked at afterwards."""
    eight = _eight_bits(footprint, settings)
    flash: dict[str, Any] = {"flash_attn": True} if settings.flash_attn is False else {}
    both = {**eight, **flash}
    if footprint.has_own_cells(settings):
        yield {"kv_unified": True}, "with one KV cache for all sequences"
    if eight:
        yield both, _EIGHT_WORDS
    if flash:
        yield flash, "with flash attention"
    yield from _fewer_sequences(footprint, settings)
    half = footprint.layers_to_place // 2
    layers = [*_fewer_layers(footprint, settings, room, {}, "with ")]
    if eight:
        layers += _fewer_layers(footprint, settings, room, both, f"{_EIGHT_WORDS} and ")
    yield from (one for one in layers if one[0]["n_gpu_layers"] >= half)
    yield from _shorter(footprint, settings, room, {}, "with ")
    if eight:
        yield from _shorter(footprint, settings, room, both, f"{_EIGHT_WORDS} and ")
    if flash:
        yield from _shorter(footprint, settings, room, flash, "with flash attention and ")
    yield from layers
    least = min(footprint.n_ctx(settings), SMALLEST_CTX)
    words = f"with a context of {least:,} tokens"
    yield from _fewer_layers(footprint, settings, room, {"n_ctx": least}, f"{words} and ")
    if eight:
        words += ", its KV cache in 8 bits and "
        yield from _fewer_layers(footprint, settings, room, {**both, "n_ctx": least}, words)


def _covers(known: dict[str, Any], other: dict[str, Any]) -> bool:
    """Say whether an option is at least as good as another one in everything."""
    return known.keys() <= other.keys() and all(
        known[name] >= other[name]
        for name in ("n_ctx", "n_gpu_layers", "n_seq_max")
        if name in known
    )


def _written(changes: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in changes.items())


def _eight_bits(footprint: Footprint, settings: LoadSettings) -> dict[str, Any]:
    """Return the changes that make the KV cache smaller, if there are any."""
    memory = footprint.memory
    wide = [name for name in _EIGHT_BITS if (getattr(settings, name) or "f16") in _WIDE]
    sizes = (memory.key_size, memory.value_size)
    if not memory.attends or not wide or any(size % _BLOCK_SIZE for size in sizes):
        return {}
    return {name: _EIGHT_BITS[name] for name in wide}


def _fewer_sequences(footprint: Footprint, settings: LoadSettings) -> Iterator[_Candidate]:
    if not footprint.state_bytes():
        return
    count = (settings.n_seq_max or DEFAULT_SEQ_MAX) // 2
    while count:
        words = "sequences" if count > 1 else "sequence"
        yield {"n_seq_max": count}, f"with {count} {words} at once"
        count //= 2


def _fewer_layers(
    footprint: Footprint,
    settings: LoadSettings,
    room: Room,
    changes: dict[str, Any],
    words: str,
) -> Iterator[_Candidate]:
    count = most_gpu_layers(footprint, settings.replace(**changes), room)
    all_layers = footprint.layers_to_place
    asked = -1 if settings.n_gpu_layers is None else settings.n_gpu_layers
    if count is None or count >= (all_layers if asked < 0 else min(asked, all_layers)):
        return
    where = f"{count} of {all_layers} layers on the graphics card"
    if not count:
        where = "all layers in main memory"
    yield {**changes, "n_gpu_layers": count}, f"{words}{where}"


def _shorter(
    footprint: Footprint,
    settings: LoadSettings,
    room: Room,
    changes: dict[str, Any],
    words: str,
) -> Iterator[_Candidate]:
    now = footprint.n_ctx(settings)
    found = largest_context(footprint, settings.replace(**changes), room, most=now - 1)
    if found is not None and found >= _LEAST_CTX:
        yield (
            {**changes, "n_ctx": found},
            f"{words}a context of {found:,} tokens instead of {now:,}",
        )


def _largest(suits: Callable[[int], bool], most: int) -> int:
    """Return the largest number up to `most` that suits, where smaller ones do if it does; or 0."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if suits(middle) else (low, middle - 1)
    return low
