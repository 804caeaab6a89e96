"""Predicted and measured sizes of the loads on this machine, which improve the next prediction.

Promises: a correction on the safe side; a file of bounded size, replaced in one go, whose damage
costs nothing but what it had learned. Leaves to others: the figures themselves (`fit_estimate`,
`fit_measured`).

The rule
--------
- The very same graph (the shapes of all tensors, and all settings that change it) makes the very
  same buffer, so what was measured then is taken as it is.
- For other models and settings of the same architecture, with the same build of llama.cpp, a
  formula that was found too small is raised by as much. One that was found too large stays: what
  was spared there need not be spared here.
- A cache is never predicted smaller than its formula; weights are never corrected.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import filelock
import msgspec

from gguf_widgets.core import config
from gguf_widgets.core.devices import Device
from gguf_widgets.core.fit_estimate import TOKEN_BYTES, Correction, Footprint
from gguf_widgets.core.fit_measured import Measured
from gguf_widgets.core.fit_place import usable_gpus
from gguf_widgets.core.gguf_header import GgufHeader
from gguf_widgets.core.types import LoadSettings

__all__ = ["LoadRecord", "correction_for", "history_path", "read", "record"]

_log = logging.getLogger(__name__)

_VERSION: Final = 1
_MOST_RECORDS: Final = 200
_MOST_BYTES: Final = 1_000_000
_LOCK_S: Final = 2.0
# A figure beyond this says that something was measured wrongly.
_MOST_FACTOR: Final = 4.0
# llama.cpp prints hundredths of a MiB; of a tiny model that is a large part.
_ROUNDED: Final = 2**16
# The settings that change what llama.cpp allocates.
_SETTINGS: Final = (
    "n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_gpu_layers", "type_k", "type_v", "flash_attn",
    "kv_unified", "n_draft", "lora",
)  # fmt: skip


class LoadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One load: what it was, what was predicted (before any correction) and what it took."""

    loaded_at: float
    architecture: str
    build: str
    graph: str
    n_vocab: int
    predicted_kv_bytes: int
    predicted_compute_bytes: int
    measured: Measured


class _File(msgspec.Struct, kw_only=True):
    version: int = _VERSION
    loads: list[LoadRecord] = []


def history_path() -> Path:
    """Return the file in which the records are kept."""
    return config.data_dir() / "memory" / "measured.json"


def read(path: Path | None = None) -> tuple[list[LoadRecord], str | None]:
    """Return the records, oldest first, and a sentence if they could not be read.

    Parameters
    ----------
    path : Path, optional
        Default: `history_path`.
    """
    path = history_path() if path is None else path
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise msgspec.ValidationError("it is too long")
        content = msgspec.json.decode(data, type=_File)
        if content.version != _VERSION:
            raise msgspec.ValidationError(f"it is of version {content.version}")
    except FileNotFoundError:
        return [], None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        return [], (
            f"What earlier loads took could not be read from {path} ({error}), so memory is "
            "estimated by formula alone. The file is written anew with the next load."
        )
    return content.loads, None


def correction_for(
    header: GgufHeader,
    settings: LoadSettings,
    devices: Sequence[Device] = (),
    records: Sequence[LoadRecord] | None = None,
) -> Correction:
    """Return what earlier loads teach about this one.

    Parameters
    ----------
    header : GgufHeader
    settings : LoadSettings
        As chosen; see `record`.
    devices : sequence of Device, optional
    records : sequence of LoadRecord, optional
        Default: those of this machine.
    """
    if records is None:
        records = read()[0]
    build = _build(devices)
    process = 0
    for load in records:
        if load.build == build:
            own = load.measured.process_bytes - load.n_vocab * TOKEN_BYTES
            process = max(process, own)
    same = [load for load in records if (load.build, load.architecture) == (build, _arch(header))]
    graph = _graph(header, settings)
    exact = next((load for load in reversed(same) if load.graph == graph), None)
    return Correction(
        kv_factor=_factor((load.measured.kv_bytes, load.predicted_kv_bytes) for load in same),
        compute_factor=_factor(
            (load.measured.compute_bytes, load.predicted_compute_bytes) for load in same
        ),
        compute_bytes=exact.measured.compute_bytes or None if exact is not None else None,
        process_bytes=process,
    )


def record(
    header: GgufHeader,
    settings: LoadSettings,
    measured: Measured,
    devices: Sequence[Device] = (),
) -> None:
    """Keep what a load took, beside what was predicted for it; a failure is logged and no more.

    Parameters
    ----------
    header : GgufHeader
    settings : LoadSettings
        Those the prediction was made with.
    measured : Measured
    devices : sequence of Device, optional
    """
    footprint = Footprint(header, devices)
    entry = LoadRecord(
        loaded_at=time.time(),
        architecture=_arch(header),
        build=_build(devices),
        graph=_graph(header, settings),
        n_vocab=footprint.graph.n_vocab,
        predicted_kv_bytes=footprint.estimate(settings).kv_bytes,
        predicted_compute_bytes=footprint.buffer_bytes(settings),
        measured=measured,
    )
    path = history_path()
    try:
        config.ensure(path.parent, private=True)
        with filelock.FileLock(path.with_suffix(".lock"), timeout=_LOCK_S, mode=0o600):
            records, note = read(path)
            if note is not None:
                _log.warning("%s", note)
            # One graph's newest figure is enough, and leaves room for others.
            kept = [load for load in records if load.graph != entry.graph]
            content = _File(loads=[*kept, entry][-_MOST_RECORDS:])
            temporary = path.with_suffix(f".{os.getpid()}.new")
            try:
                temporary.write_bytes(msgspec.json.encode(content))
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    except (OSError, filelock.Timeout) as error:
        _log.warning("what the load took could not be kept in %s: %s", path, error)


def _factor(pairs: Iterable[tuple[int, int]]) -> float:
    """Return by how much the formula was too small at worst; 1 if it never was."""
    worst = 1.0
    for measured, predicted in pairs:
        if predicted > 0 and predicted + _ROUNDED < measured <= predicted * _MOST_FACTOR:
            worst = max(worst, measured / predicted)
    return worst


def _arch(header: GgufHeader) -> str:
    return header.info().architecture


def _build(devices: Sequence[Device]) -> str:
    """Name what computes: the library's version, and the cards it uses."""
    try:
        version = importlib.metadata.version("llama-cpp-python")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    return " ".join([version, *(gpu.name for gpu in usable_gpus(devices))])


def _graph(header: GgufHeader, settings: LoadSettings) -> str:
    """Return a digest of everything that shapes the graph."""
    digest = hashlib.sha256(_arch(header).encode())
    for tensor in header.tensors:
        digest.update(f"{tensor.name}{tensor.shape}{tensor.type_id}".encode())
    for key, value in sorted(header.metadata.items()):
        # Head counts, windows, ...: not all of them show in the shapes.
        if isinstance(value, int | float) and not key.startswith(("general.", "tokenizer.")):
            digest.update(f"{key}={value}".encode())
    for name in _SETTINGS:
        digest.update(f"{name}={getattr(settings, name)}".encode())
    return digest.hexdigest()[:16]
