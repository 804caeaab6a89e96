"""Judging a model file and the memory before a worker is started.

Promises: no native code sees a file that was not judged here, in the calling process; what is
promised to one load is not promised to another at the same time; what each load took is kept, and
the next is judged better for it. Leaves to others: every figure (`fit`), starting (`worker`).
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gguf_widgets.core.demo_mode import demo_reason
from gguf_widgets.core.errors import (
    DeviceQueryError,
    GgufWidgetsError,
    MissingDependencyError,
    ModelFileError,
    NotEnoughMemoryError,
)
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.types import LoadSettings
from gguf_widgets.core.worker.protocol import Ready
from gguf_widgets.core.worker.spec import WorkerSpec, file_identity

if TYPE_CHECKING:
    from gguf_widgets.core.devices import Device
    from gguf_widgets.core.gguf import GgufHeader
    from gguf_widgets.core.gguf_projector import ProjectorInfo

__all__ = ["Judge"]


class Judge:
    """Judges one model with some settings, as often as a worker for it is started.

    Parameters
    ----------
    path : Path
    backend : str
    requested : LoadSettings
        Without a chat template.
    force : bool
        Let it be loaded whatever it needs.
    mmproj_may_miss : bool, default False
        The image companion was found and not named: a model is loaded without it if it cannot be
        used, or if there is no memory for it.
    """

    def __init__(
        self,
        path: Path,
        backend: str,
        requested: LoadSettings,
        *,
        force: bool,
        mmproj_may_miss: bool = False,
    ) -> None:
        self._path = path
        self._backend = backend
        self._requested = requested
        self._force = force
        self._mmproj_may_miss = mmproj_may_miss
        self._last: _Judged | None = None
        self.num_judged = 0  # how often a worker had to be started

    def __call__(self) -> WorkerSpec:
        """Return what a worker is to load; it has memory reserved for it.

        Raises
        ------
        ModelFileError, NotEnoughMemoryError
        """
        self.num_judged += 1
        if self._backend == "scripted":
            return _demo_spec(self._path, self._requested)
        judged = self._judge(reserve=True, force=self._force)
        self._last = judged
        return judged.spec

    def loaded(self, ready: Ready) -> None:
        """Keep what the load took, if it was this judge who let it begin."""
        from gguf_widgets.core import fit_history  # Not needed to join a worker.

        judged = self._take()
        if judged is not None and ready.memory is not None:
            fit_history.record(judged.header, judged.spec.chosen, ready.memory, judged.devices)

    def failed(self, error: GgufWidgetsError) -> None:
        """Give back what no worker has taken; raise what is wrong with the file, if that is why.

        The file may have vanished, or have been replaced, since it was judged; and with `force`
        nobody asked whether there is enough memory.

        Raises
        ------
        ModelFileError, NotEnoughMemoryError
        """
        self.given_up()
        if self._backend == "scripted":
            return
        try:
            self._judge(reserve=False, force=False)
        except ModelFileError as reason:
            raise reason from error
        except NotEnoughMemoryError as reason:
            raise NotEnoughMemoryError(
                f"{reason.message} (Loading it failed: {error.message})", **reason.details
            ) from error

    def given_up(self) -> None:
        """Give back what no worker has taken."""
        judged = self._take()
        if judged is not None:
            from gguf_widgets.core import fit_reservation

            fit_reservation.drop_own(judged.spec.reservation)

    def _judge(self, *, reserve: bool, force: bool) -> _Judged:
        wanted = _Wanted(self._path, self._backend, self._requested, self._mmproj_may_miss)
        return _Judged.of(wanted, reserve=reserve, force=force)

    def _take(self) -> _Judged | None:
        judged, self._last = self._last, None
        return judged


class _Wanted(NamedTuple):
    """What is to be judged."""

    path: Path
    backend: str
    requested: LoadSettings
    mmproj_may_miss: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Judged:
    """What came of one judging."""

    spec: WorkerSpec
    header: GgufHeader
    devices: list[Device]

    @classmethod
    def of(cls, wanted: _Wanted, *, reserve: bool, force: bool) -> _Judged:
        """Look at the files and the memory."""
        from gguf_widgets.core import gguf

        header = gguf.read_header(wanted.path)
        gguf.check_is_model(header)
        for adapter, _ in wanted.requested.lora:
            gguf.check_is_adapter(gguf.read_header(adapter), header)
        companion, notes = _companion(wanted, header)
        try:
            judged = cls._weigh(wanted, header, companion, reserve=reserve, force=force)
        except NotEnoughMemoryError as error:
            if companion is None:
                raise
            if not wanted.mmproj_may_miss:
                size = format_bytes(companion.size_bytes + companion.compute_bytes)
                raise NotEnoughMemoryError(
                    f"{error.message} ({size} of what is free is for its image companion; with"
                    " mmproj=False it is loaded without.)",
                    **error.details,
                ) from None
            judged = cls._weigh(wanted, header, None, reserve=reserve, force=force)
            notes.append(
                "There is not enough memory for the image companion"
                f" ({format_bytes(companion.size_bytes)}) as well, so images cannot be sent."
            )
        notes = [*notes, *judged.spec.notes]
        spec = msgspec.structs.replace(judged.spec, notes=tuple(notes))
        return dataclasses.replace(judged, spec=spec)

    @classmethod
    def _weigh(
        cls,
        wanted: _Wanted,
        header: GgufHeader,
        companion: ProjectorInfo | None,
        *,
        reserve: bool,
        force: bool,
    ) -> _Judged:
        """Look at the memory."""
        from gguf_widgets.core import fit, fit_history, fit_reservation

        path, backend, requested, _ = wanted
        found, notes = _cards()
        beside = _memory_beside(companion, requested, found)
        identity = file_identity(path, backend)  # of the model itself, whatever adapters it has
        with fit_reservation.judging() as claims:
            held = claims.main_bytes(identity)
            free = max(0, fit.free_memory() - held - beside.get("", 0))
            devices = [
                msgspec.structs.replace(
                    card,
                    memory_free_bytes=max(
                        0,
                        card.memory_free_bytes
                        - claims.gpu_bytes(card.name)
                        - beside.get(card.name, 0),
                    ),
                )
                for card in found
            ]
            chosen, chosen_notes = fit.choose_settings(
                header, requested, free_bytes=free, gpus=devices
            )
            records, trouble = fit_history.read()
            correction = fit_history.correction_for(header, chosen, devices, records)
            try:
                need = fit.check_fits(
                    header, chosen, free_bytes=free, gpus=devices, correction=correction
                )
            except NotEnoughMemoryError as error:
                if not force:
                    raise _with_held(error, held) from None
                need = fit.estimate(header, chosen, gpus=devices, correction=correction)
            reservation = ""
            if reserve:
                mapped = chosen.use_mmap is not False
                reservation = claims.reserve(
                    file=identity,
                    mapped_bytes=need.weights_bytes if mapped else 0,
                    main_bytes=need.main_bytes + beside.get("", 0),
                    gpu_bytes=_sum(dict(need.gpu_bytes), beside),
                    locked=bool(chosen.use_mlock),
                )
        notes += [*chosen_notes, *([trouble] if trouble else [])]
        spec = WorkerSpec(
            path=os.fspath(path),
            backend=backend,
            requested=requested,
            chosen=chosen.replace(mmproj=requested.mmproj if companion is not None else ""),
            notes=tuple(notes),
            reservation=reservation,
            mmproj_may_miss=wanted.mmproj_may_miss,
        )
        return cls(spec=spec, header=header, devices=devices)


def _companion(wanted: _Wanted, header: GgufHeader) -> tuple[ProjectorInfo | None, list[str]]:
    """Judge the image companion; return nothing of one that may miss and cannot be used."""
    from gguf_widgets.core import gguf

    mmproj = wanted.requested.mmproj
    if not mmproj:
        return None, []
    try:
        return gguf.check_is_projector(gguf.read_header(mmproj), header), []
    except ModelFileError as error:
        if not wanted.mmproj_may_miss:
            raise
        return None, [f"Images cannot be sent: {error.message}"]


def _memory_beside(
    companion: ProjectorInfo | None, requested: LoadSettings, cards: list[Device]
) -> dict[str, int]:
    """Return what an image companion takes, by the name of the card; "" is the main memory."""
    if companion is None:
        return {}
    on_card = cards and requested.n_gpu_layers != 0  # llama.cpp puts it on the first one
    place = cards[0].name if on_card else ""
    return {place: companion.size_bytes + companion.compute_bytes}


def _sum(cards: dict[str, int], beside: dict[str, int]) -> dict[str, int]:
    names = {*cards, *beside} - {""}
    return {name: cards.get(name, 0) + beside.get(name, 0) for name in names}


def _demo_spec(path: Path, requested: LoadSettings) -> WorkerSpec:
    reason = demo_reason() or "This is the scripted backend: prepared answers, no model."
    return WorkerSpec(
        path=os.fspath(path),
        backend="scripted",
        requested=requested,
        chosen=requested,
        notes=(f"Demo mode. {reason}",),
    )


def _cards() -> tuple[list[Device], list[str]]:
    """Return the devices that could take a part of a model, and what hindered asking for them."""
    from gguf_widgets.core.devices import graphics_cards

    try:
        return graphics_cards(), []
    except MissingDependencyError:
        return [], []  # which the worker will say in its own words
    except DeviceQueryError as error:
        return [], [f"{error.message} So the model is judged by the main memory alone."]


def _with_held(error: NotEnoughMemoryError, held: int) -> NotEnoughMemoryError:
    """Say how much of the memory is promised to others."""
    if not held:
        return error
    return NotEnoughMemoryError(
        f"{error.message} ({format_bytes(held)} more is kept for models that are loaded or being "
        "loaded; unload one that you do not need.)",
        **error.details,
        held_bytes=held,
    )
