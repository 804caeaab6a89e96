"""What a conversion has made, and whether it is what it should be.

Promises: what passes is a whole model file with the model's own tensors, shapes and header entries,
in the form that was asked for, and not a byte shorter or longer than its header says. Leaves to
others: making it (`converting`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gguf_widgets.core.care.quantizations import ALIGNMENT, file_type_of
from gguf_widgets.core.errors import FileChangeError, ModelFileError
from gguf_widgets.core.format import format_bytes, format_duration, plain_text
from gguf_widgets.core.gguf import check_is_model, read_header
from gguf_widgets.core.gguf_header import GgufHeader

__all__ = ["ConvertResult", "judge", "refuse_full"]

# Less than this is a full disk: room is given out in pieces, and some is kept for the superuser.
_FULL_BYTES: Final = 1 << 20

# What a conversion changes in the header, and nothing else.
_CHANGED_KEYS: Final = frozenset(
    {
        "general.file_type",
        "general.quantization_version",
        "split.no",
        "split.count",
        "split.tensors.count",
    }
)


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """What a conversion has made; as text, a few sentences.

    Attributes
    ----------
    path : Path
        The new file.
    name : str
    quantization : str
    size_before_bytes, size_after_bytes : int
    num_tensors : int
        As many as the model has.
    types : dict of str to int
        How many tensors are in which type now.
    num_fallback : int
        Tensors whose shape did not go with the form and that llama.cpp put into a larger one.
    elapsed_s : float
    notes : tuple of str
        What else the person should know.
    """

    path: Path
    name: str
    quantization: str
    size_before_bytes: int
    size_after_bytes: int
    num_tensors: int
    types: dict[str, int]
    num_fallback: int
    elapsed_s: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "path": str(self.path),
            "name": self.name,
            "quantization": self.quantization,
            "size_before_bytes": self.size_before_bytes,
            "size_after_bytes": self.size_after_bytes,
            "num_tensors": self.num_tensors,
            "types": dict(self.types),
            "num_fallback": self.num_fallback,
            "elapsed_s": self.elapsed_s,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        said = (
            f'"{plain_text(self.name, 100)}" is ready: {self.quantization}, '
            f"{format_bytes(self.size_after_bytes)} instead of "
            f"{format_bytes(self.size_before_bytes)}, in {format_duration(self.elapsed_s)}."
        )
        return " ".join([said, *self.notes, "The model that it was made from is as it was."])


def judge(header: GgufHeader, part: Path, form: str) -> None:
    """Refuse a result that is not this model in this form.

    llama.cpp does not notice a disk that fills up: its stream reports that in a way that it does
    not look at. So the file's own size is compared to the byte.

    Parameters
    ----------
    header : GgufHeader
        The model's.
    part : Path
    form : str

    Raises
    ------
    FileChangeError
        "space" or "bad_result".
    """
    try:
        made = read_header(part)
        check_is_model(made)
    except ModelFileError as error:
        refuse_full(part.parent)
        raise _bad(f"it is no whole model file ({error.message})") from error
    old, new = _shapes(header), _shapes(made)
    if old != new:
        wrong = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        raise _bad(
            f"{len(wrong):,} tensors are not as in the model, {plain_text(wrong[0])} among them"
        )
    end = max(
        tensor.offset + -(-(tensor.size or 0) // ALIGNMENT) * ALIGNMENT for tensor in made.tensors
    )
    if made.size_bytes != end:
        raise _bad(f"it has {made.size_bytes:,} bytes and should have {end:,}")
    said = made.number("general.file_type")
    if said != file_type_of(form):
        raise _bad(f"it says that it is of the type {said}")
    lost = header.metadata.keys() - made.metadata.keys() - _CHANGED_KEYS
    if lost:
        raise _bad(f"its header lacks {len(lost)} entries ({plain_text(min(lost))}, ...)")


def refuse_full(folder: Path) -> None:
    """Say so if a disk is full, since whatever failed there failed by that.

    Raises
    ------
    FileChangeError
        "space".
    """
    free = shutil.disk_usage(folder).free
    if free < _FULL_BYTES:
        raise FileChangeError(
            f"The disk filled up while the model was converted: {format_bytes(free)} were left. "
            "What had been written is removed. Make room, then try again.",
            problem="space",
            free_bytes=free,
        )


def _shapes(header: GgufHeader) -> dict[str, tuple[int, ...]]:
    """Return each tensor's shape; dimensions of 1 at its end mean nothing and may be left out."""
    shapes = {}
    for tensor in header.tensors:
        shape = list(tensor.shape)
        while shape and shape[-1] == 1:
            shape.pop()
        shapes[tensor.name] = tuple(shape)
    return shapes


def _bad(why: str) -> FileChangeError:
    return FileChangeError(
        f"What llama.cpp wrote is not right, so it was thrown away: {why}. The model itself is as "
        "it was.",
        problem="bad_result",
    )
