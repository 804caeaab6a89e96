"""Making another version of a model: llama.cpp's own quantization, into a new file.

Promises: the model itself is never touched, and a file of the new name appears only when it is
whole and has been compared with the model, tensor by tensor; a conversion that is stopped, fails or
is killed leaves nothing that is taken for a model. What cannot work is refused before it begins:
forms that llama.cpp would refuse, a disk that is too small, a model that is quantized already
(unless that is asked for). Leaves to others: the forms (`quantizations`), the process
(`conversion_process`).

While it is written the file is called ``.NAME.PID-....convert.part``; one that a killed process has
left is removed by the next conversion into that folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil

from gguf_widgets.core import config, demo_mode
from gguf_widgets.core.care.conversion_process import ConversionProcess
from gguf_widgets.core.care.conversion_result import ConvertResult, judge, refuse_full
from gguf_widgets.core.care.members import ModelFiles, is_named_by_hash, model_files
from gguf_widgets.core.care.moves import LEFT_FREE_BYTES, carry_out, failed, plan
from gguf_widgets.core.care.names import MAX_NAME_BYTES, checked_stem, with_number
from gguf_widgets.core.care.ownership import owner_of
from gguf_widgets.core.care.progress import Cancelled, OnProgress, Watch
from gguf_widgets.core.care.quantizations import (
    ALIGNMENT,
    PLAIN_TYPES,
    QuantizationList,
    checked_quantization,
    file_type_of,
    quantizations_of,
    quantized_types,
    refusal,
)
from gguf_widgets.core.care.renaming import free_stem
from gguf_widgets.core.errors import (
    FileChangeError,
    InvalidValueError,
    MissingDependencyError,
)
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.gguf import check_is_model, read_header
from gguf_widgets.core.gguf_bytes import shown
from gguf_widgets.core.gguf_header import GgufHeader
from gguf_widgets.core.library import ModelEntry

__all__ = ["ConvertResult", "convert", "new_stem", "own_name", "quantizations"]

_PART: Final = re.compile(r"\..+\.(\d+)-([0-9a-f]{4})[0-9a-f]{4}\.convert\.part", re.DOTALL)
# A part that nobody has written to for so long, and whose process is gone, is left over.
_LEFT_OVER_S: Final = 600.0
# Of another machine's processes nobody here knows, and its clock may be another one.
_FOREIGN_S: Final = 86_400.0
# llama.cpp says sizes in hundredths of a MiB, and a header grows by an entry or two.
_TOLERANCE_BYTES: Final = 64 << 10
_MAX_THREADS: Final = 1024


def quantizations(model: ModelEntry | str | os.PathLike[str] | None = None) -> QuantizationList:
    """Return the forms that a model can be converted to, with their meaning and size.

    Parameters
    ----------
    model : ModelEntry, str or path-like, optional
        Without one, sizes are bits per weight.

    Raises
    ------
    ModelFileError
        There is no such model, or the file is none.

    Examples
    --------
    >>> [one.name for one in quantizations()][:3]
    ['F32', 'F16', 'BF16']
    """
    if model is None:
        return quantizations_of()
    header = read_header(model_files(model).parts[0])
    check_is_model(header)
    return quantizations_of(header)


def convert(
    model: ModelEntry | str | os.PathLike[str],
    quantization: str,
    *,
    name: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    requantize: bool = False,
    n_threads: int | None = None,
    on_progress: OnProgress | None = None,
    cancelled: Cancelled | None = None,
) -> ConvertResult:
    """Write another version of a model.

    Parameters
    ----------
    model : ModelEntry, str or path-like
        A name from the list, or a path; whoever it belongs to, since it is only read.
    quantization : str
        "Q4_K_M", "Q8_0", ...; `quantizations` tells which and what they mean.
    name : str, optional
        What the new model is called. Default: the model's name with the new form for its own.
    folder : path-like, optional
        Where it goes. Default: beside the model if that is in our models folder, else there.
    requantize : bool, default False
        Convert a model that is quantized already. It loses quality a second time: the same form
        made from the F16 version is better.
    n_threads : int, optional
        Default: one for each core that this process may use.
    on_progress : callable, optional
        Called with a `Progress` in bytes written, from this thread, some ten times a second.
    cancelled : callable, optional
        Asked as often; True stops the conversion.

    Returns
    -------
    ConvertResult
        A model that was split comes out as one file.

    Raises
    ------
    InvalidValueError
        There is no such form, or `n_threads` is out of range.
    FileChangeError
        `problem` is "impossible", "requantize" (quantized already, and that was not asked for),
        "needs_matrix", "taken" (with a `suggestion`), "name", "space", "permission", "cancelled",
        "refused" (by llama.cpp), "process" (it crashed or was killed), "changed" (the model was,
        meanwhile) or "bad_result".
    MissingDependencyError
        llama-cpp-python is not there.
    ModelFileError
        There is no such model, or the file is none.
    """
    began = time.monotonic()
    form = checked_quantization(quantization)
    threads = _checked_threads(n_threads)
    files = model_files(model)
    header = read_header(files.parts[0])
    check_is_model(header)
    _refuse_impossible(header, form, requantize=requantize)
    reason = demo_mode.demo_reason()
    if reason is not None:
        raise MissingDependencyError(f"Models cannot be converted in demo mode. {reason}")
    target = _target(own_name(model, files, header), files.parts[0], header, form, name, folder)
    before = [_state(path) for path in header.parts]
    watch = Watch("convert", 0, on_progress=on_progress, cancelled=cancelled)
    with _Part(target) as part, ConversionProcess() as process:
        request = {
            "input": str(header.parts[0]),
            "output": str(part),
            "file_type": file_type_of(form),
            "requantize": requantize,
            "n_threads": threads,
        }
        planned = process.plan(request, watch.check)
        expected = _expected_size(header, planned)
        if planned.get("needs_matrix"):
            raise FileChangeError(
                f"Some tensors of {shown(header.path)} would need an importance matrix as {form}, "
                "which this program does not make. Choose a larger form.",
                problem="needs_matrix",
                quantization=form,
            )
        _check_space(part.parent, form, expected)
        watch = Watch("convert", expected, on_progress=on_progress, cancelled=cancelled)
        try:
            done = process.convert(request, _written(part, expected, watch))
        except FileChangeError as error:
            if error.details.get("problem") == "refused":  # llama.cpp says only "iostream error"
                refuse_full(part.parent)
            raise
        judge(header, part, form)
        _make_safe(part)
        if before != [_state(path) for path in header.parts]:
            raise FileChangeError(
                f"{shown(header.path)} was changed while it was converted. Try again.",
                problem="changed",
                path=str(header.path),
            )
        # Until here the process is there, to remove the file if this one is killed.
        carry_out([plan(part, target)])
    watch.at(expected)
    return _result(header, target, form, done, time.monotonic() - began)


# --- what is refused before it begins ---


def _checked_threads(n_threads: int | None) -> int:
    if n_threads is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if isinstance(n_threads, bool) or not isinstance(n_threads, int):
        raise InvalidValueError(f"n_threads is a whole number, not {n_threads!r:.40}.")
    if not 1 <= n_threads <= _MAX_THREADS:
        raise InvalidValueError(f"n_threads is {n_threads}; it goes from 1 to {_MAX_THREADS}.")
    return n_threads


def _refuse_impossible(header: GgufHeader, form: str, *, requantize: bool) -> None:
    why = refusal(header, form)
    if why is not None:
        raise FileChangeError(
            f"{shown(header.path)} cannot be converted to {form}: {why}",
            problem="impossible",
            quantization=form,
        )
    lossy = quantized_types(header)
    if lossy and not requantize:
        raise FileChangeError(
            f"{shown(header.path)} is quantized already ({', '.join(lossy)}), and converting it "
            f"again loses quality: {form} made from its F16 or F32 version is better. If there is "
            "none, ask for it on purpose (requantize=True, or --requantize).",
            problem="requantize",
            quantization=form,
            types=lossy,
        )


def _target(
    stem: str,
    path: Path,
    header: GgufHeader,
    form: str,
    name: str | None,
    folder: str | os.PathLike[str] | None,
) -> Path:
    if folder is not None:
        where = config.expanded(folder)
        if not where.is_dir():
            raise FileChangeError(
                f"There is no folder {plain_text(str(where), 200)}. Make it, or name another one.",
                problem="folder",
                path=str(where),
            )
    else:
        where = path.parent if owner_of(path).is_ours else config.models_dir()
        try:
            config.ensure(where)
        except OSError as error:
            raise failed(where, error) from error
    new = checked_stem(name) if name is not None else new_stem(stem, header, form)
    target = where / f"{new}.gguf"
    try:
        if target.exists() or target.is_symlink():
            raise FileChangeError(
                f"There is a file {shown(target)} in {plain_text(str(where), 200)} already. Give "
                "the new one another name.",
                problem="taken",
                path=str(target),
                suggestion=free_stem(where, new),
            )
    except OSError as error:
        raise failed(target, error) from error
    return target


def own_name(
    model: ModelEntry | str | os.PathLike[str], files: ModelFiles, header: GgufHeader
) -> str:
    """Return what a model is called in the name of what is made from it.

    A file that is called by its hash says nothing: then it is what the list or its header calls it.

    Parameters
    ----------
    model : ModelEntry, str or path-like
        As it was asked for.
    files : ModelFiles
    header : GgufHeader
    """
    if not is_named_by_hash(files.parts[0]):
        return files.stem
    name = model.name if isinstance(model, ModelEntry) else header.name
    # "qwen3:4b", as Ollama calls it, is no name of a file.
    plain = re.sub(r'[<>:"|?*/\\\s]+', "-", plain_text(name, MAX_NAME_BYTES // 4)).strip("-. ")
    return plain or "model"


def new_stem(stem: str, header: GgufHeader, form: str) -> str:
    """Return the model's name with the new form for its own: "Tiny-F16" becomes "Tiny-Q8_0".

    Raises
    ------
    FileChangeError
        "name": the model's own name is one that no new file gets.
    """
    own = {header.info().quantization, *(tensor.type for tensor in header.tensors), "FP16", "FP32"}
    for known in sorted(own, key=len, reverse=True):
        match = re.fullmatch(rf"(.+[-_. ]){re.escape(known)}", stem, re.IGNORECASE)
        if match:
            stem = match[1][:-1]
            break
    if len(f"{stem}-{form}".encode()) > MAX_NAME_BYTES:
        stem = with_number(stem, 2)[: -len(form) - 1]
    # The model's own name may be one that no new file gets; then it has to be said.
    return checked_stem(f"{stem}-{form}")


def _expected_size(header: GgufHeader, planned: dict[str, Any]) -> int:
    size_mib = planned.get("size_mib")
    if not isinstance(size_mib, (int, float)) or not 0 <= size_mib < 1 << 40:
        raise FileChangeError(
            "llama.cpp did not say how large the result would be; its version may be one that this "
            "program does not know.",
            problem="refused",
        )
    head = header.size_bytes - header.tensor_bytes
    return int(size_mib * 2**20) + head + ALIGNMENT * len(header.tensors) + _TOLERANCE_BYTES


def _check_space(folder: Path, form: str, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + LEFT_FREE_BYTES:
        raise FileChangeError(
            f"As {form} the model needs {format_bytes(needed)} and the disk has "
            f"{format_bytes(free)} free ({format_bytes(LEFT_FREE_BYTES)} of it stay free for "
            "others). Make room, or choose a smaller form.",
            problem="space",
            needed_bytes=needed,
            free_bytes=free,
        )


# --- the file that is being written ---


class _Part:
    """The unfinished file; gone at the end unless it has its name by then."""

    def __init__(self, target: Path) -> None:
        ending = f".{os.getpid()}-{_machine()}{secrets.token_hex(2)}.convert.part"
        stem = target.name.encode()[: 250 - len(ending)].decode("utf-8", "ignore")
        self._path = target.with_name(f".{stem}{ending}")

    def __enter__(self) -> Path:
        _remove_leftovers(self._path.parent)
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            os.close(descriptor)
        except OSError as error:
            raise failed(self._path, error) from error
        return self._path

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _machine() -> str:
    """Return four digits that tell this machine from others that use the same folder."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:4]


def _remove_leftovers(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            match = _PART.fullmatch(path.name)
            if match is None:
                continue
            own = match[2] == _machine()
            if own and psutil.pid_exists(int(match[1])):
                continue
            with contextlib.suppress(OSError):  # on the next occasion
                # The clock may have been set back since.
                age = abs(time.time() - path.stat().st_mtime)
                if age > (_LEFT_OVER_S if own else _FOREIGN_S):
                    path.unlink()


def _written(part: Path, expected: int, watch: Watch) -> Callable[[], int]:
    def look() -> int:
        try:
            size = part.stat().st_size
        except OSError:
            size = 0
        # The last step is said when the file has its name.
        watch.at(min(size, expected - 1))
        return size

    return look


def _make_safe(part: Path) -> None:
    """Wait until it is on the disk; a full one may say so only now."""
    try:
        descriptor = os.open(part, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise failed(part, error) from error


# --- and then ---


def _state(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise failed(path, error) from error
    return status.st_ino, status.st_size, status.st_mtime_ns


def _result(
    header: GgufHeader, target: Path, form: str, done: dict[str, Any], elapsed_s: float
) -> ConvertResult:
    made = read_header(target)
    num_fallback = done.get("num_fallback")
    num_fallback = num_fallback if isinstance(num_fallback, int) else 0
    notes = []
    if num_fallback:
        notes.append(
            f"{num_fallback:,} of its {len(made.tensors):,} tensors have a shape that does not go "
            f"with {form} and were put into a larger form."
        )
    lossy = quantized_types(header)
    if lossy:
        notes.append(f"It was made from {', '.join(lossy)}, so it is worse than {form} usually is.")
    if made.size_bytes > header.size_bytes and form in PLAIN_TYPES:
        notes.append("It is larger than before and no better.")
    if len(header.parts) > 1:
        notes.append(f"It is one file now, not {len(header.parts)}.")
    return ConvertResult(
        path=target,
        name=target.stem,
        quantization=form,
        size_before_bytes=header.size_bytes,
        size_after_bytes=made.size_bytes,
        num_tensors=len(made.tensors),
        types=dict(Counter(tensor.type for tensor in made.tensors)),
        num_fallback=num_fallback,
        elapsed_s=elapsed_s,
        notes=tuple(notes),
    )
