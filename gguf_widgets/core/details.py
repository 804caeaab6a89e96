"""Everything a person may want to know of one model before loading it.

Promises: facts from the model's own metadata as plain texts, its chat template, its tensor types,
and how much memory it takes at each length of context beside what is free; everything that comes
from the file is cut to a line and told if it is cut. Leaves to others: the facts in words
(`inspect.about`), the figures (`fit`), where else the file is known (`library`), how it looks (the
picker).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

import msgspec

from gguf_widgets.core import fit_history
from gguf_widgets.core.devices import Device
from gguf_widgets.core.fit import choose_settings, free_memory
from gguf_widgets.core.fit_estimate import Correction, Footprint
from gguf_widgets.core.fit_options import Room, fits
from gguf_widgets.core.gguf import GgufHeader, read_header
from gguf_widgets.core.inspect import about, tensor_types
from gguf_widgets.core.types import LoadSettings

__all__ = ["FitPoint", "ModelDetails", "details", "fit_points"]

# A template of this length is shown whole; llama.cpp's own longest has some 20,000 characters.
_LONGEST_TEMPLATE: Final = 50_000
_SMALLEST_CTX: Final = 512
# Of a model that does not say how much it was trained with.
_UNKNOWN_CTX: Final = 32_768


class FitPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes with one length of context, in bytes, on all devices together.

    Attributes
    ----------
    n_ctx : int
    weights_bytes, kv_bytes : int
    other_bytes : int
        Buffers for computing, and the process itself.
    fits : bool
        Into what is free now, on each device.
    """

    n_ctx: int
    weights_bytes: int
    kv_bytes: int
    other_bytes: int
    fits: bool

    @property
    def total_bytes(self) -> int:
        """Everything together."""
        return self.weights_bytes + self.kv_bytes + self.other_bytes


class ModelDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to know.

    Attributes
    ----------
    facts : list of (str, str)
        What it is about and the fact, in the order in which they are shown; what the file does not
        say is left out. Addresses are texts: nobody has checked where they lead.
    tensor_types : list of (str, int, int)
        Each number format, how many tensors have it and their bytes, the largest part first.
    template : str
        The chat template, or "".
    template_note : str
        A sentence if it is not shown whole, or there is none.
    points : list of FitPoint
        By length of context, the shortest first.
    chosen_ctx : int
        The context that would be chosen now.
    free_bytes : int
        Free memory, that of graphics cards included.
    """

    facts: list[tuple[str, str]]
    tensor_types: list[tuple[str, int, int]]
    template: str
    template_note: str
    points: list[FitPoint]
    chosen_ctx: int
    free_bytes: int


def details(
    path: Path, *, free_bytes: int | None = None, gpus: Sequence[Device] = ()
) -> ModelDetails:
    """Return the details of a model file.

    Parameters
    ----------
    path : Path
    free_bytes : int, optional
        Free main memory. Default: `fit.free_memory`.
    gpus : sequence of Device, optional
        The graphics cards that there are.

    Raises
    ------
    ModelFileError
        The file is no model that can be used.
    """
    header = read_header(path)
    free = free_memory() if free_bytes is None else free_bytes
    chosen, _ = choose_settings(header, free_bytes=free, gpus=gpus)
    correction = fit_history.correction_for(header, chosen, gpus)
    template, note = _template(header)
    on_cards = sum(gpu.memory_free_bytes for gpu in gpus if not gpu.integrated)
    return ModelDetails(
        facts=about(header),
        tensor_types=[(kind, number, size) for kind, number, _, size in tensor_types(header)],
        template=template,
        template_note=note,
        points=fit_points(header, chosen, free_bytes=free, gpus=gpus, correction=correction),
        chosen_ctx=chosen.n_ctx or 0,
        free_bytes=free + on_cards,
    )


def fit_points(
    header: GgufHeader,
    settings: LoadSettings,
    *,
    free_bytes: int,
    gpus: Sequence[Device] = (),
    correction: Correction | None = None,
) -> list[FitPoint]:
    """Return what a model takes with contexts from 512 tokens to what it was trained with.

    Parameters
    ----------
    header : GgufHeader
    settings : LoadSettings
        All but the context; its context is one of the points as well.
    free_bytes : int
        Free main memory.
    gpus : sequence of Device, optional
    correction : Correction, optional
        What this machine has learned. What it knows of one context alone does not count.
    """
    if correction is not None:
        correction = Correction(
            kv_factor=correction.kv_factor,
            compute_factor=correction.compute_factor,
            process_bytes=correction.process_bytes,
        )
    footprint, room = Footprint(header, gpus, correction), Room(free_bytes)
    most = footprint.n_ctx_train or _UNKNOWN_CTX
    doublings = takewhile(lambda n: n < most, (_SMALLEST_CTX << step for step in range(32)))
    lengths = {*doublings, most, *({settings.n_ctx} if settings.n_ctx else ())}
    points = []
    for n_ctx in sorted(lengths):
        need = footprint.estimate(settings.replace(n_ctx=max(n_ctx, 16)))
        points.append(
            FitPoint(
                n_ctx=max(n_ctx, 16),
                weights_bytes=need.weights_bytes,
                kv_bytes=need.kv_bytes,
                other_bytes=need.compute_bytes + need.process_bytes,
                fits=fits(footprint, need, room),
            )
        )
    return points


def _template(header: GgufHeader) -> tuple[str, str]:
    template = header.chat_template
    if template is None:
        return "", "It has no chat template: it continues a text, or is talked with in a plain way."
    if len(template) <= _LONGEST_TEMPLATE:
        return template, ""
    note = f"The first {_LONGEST_TEMPLATE:,} of its {len(template):,} characters."
    return template[:_LONGEST_TEMPLATE], note
