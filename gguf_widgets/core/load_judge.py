"""Judging a model file and the memory before a worker is started.

Promises: no native code sees a file that was not judged here, in the calling process; what is
promised to one load is not promised to another at the same time; what each load took is kept, and
the next is judged better for it. Leaves to others: every figure (`fit`), starting (`worker`).
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

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
    """

    def __init__(self, path: Path, backend: str, requested: LoadSettings, *, force: bool) -> None:
        self._path = path
        self._backend = backend
        self._requested = requested
        self._force = force
        self._last: _Judged | None = None

    def __call__(self) -> WorkerSpec:
        """Return what a worker is to load; it has memory reserved for it.

        Raises
        ------
        ModelFileError, NotEnoughMemoryError
        """
        if self._backend == "scripted":
            return _demo_spec(self._path, self._requested)
        judged = _Judged.of(
            self._path, self._backend, self._requested, reserve=True, force=self._force
        )
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
            _Judged.of(self._path, self._backend, self._requested, reserve=False, force=False)
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

    def _take(self) -> _Judged | None:
        judged, self._last = self._last, None
        return judged


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Judged:
    """What came of one judging."""

    spec: WorkerSpec
    header: GgufHeader
    devices: list[Device]

    @classmethod
    def of(
        cls, path: Path, backend: str, requested: LoadSettings, *, reserve: bool, force: bool
    ) -> _Judged:
        """Look at the file and the memory."""
        from gguf_widgets.core import fit, fit_history, fit_reservation, gguf

        header = gguf.read_header(path)
        gguf.check_is_model(header)
        for adapter, _ in requested.lora:
            gguf.check_is_adapter(gguf.read_header(adapter), header)
        found, notes = _cards()
        identity = file_identity(path, backend)  # of the model itself, whatever adapters it has
        with fit_reservation.judging() as claims:
            held = claims.main_bytes(identity)
            free = max(0, fit.free_memory() - held)
            devices = [
                msgspec.structs.replace(
                    card,
                    memory_free_bytes=max(0, card.memory_free_bytes - claims.gpu_bytes(card.name)),
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
                    main_bytes=need.main_bytes,
                    gpu_bytes=dict(need.gpu_bytes),
                    locked=bool(chosen.use_mlock),
                )
        notes += [*chosen_notes, *([trouble] if trouble else [])]
        spec = WorkerSpec(
            path=os.fspath(path),
            backend=backend,
            requested=requested,
            chosen=chosen,
            notes=tuple(notes),
            reservation=reservation,
        )
        return cls(spec=spec, header=header, devices=devices)


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
