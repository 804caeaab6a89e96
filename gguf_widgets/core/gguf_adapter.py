"""Whether a GGUF file is a LoRA adapter that goes with a model, as far as the headers can tell.

Promises: what passes can be added to the model: the kind, the architecture, each pair of matrices
and every shape have been compared, so that llama.cpp, which trusts some of these, has nothing left
to trip over; what does not is refused with both values. Leaves to others: whether the adapter was
made for these very weights (no header tells), and adding it (the worker).

An adapter holds for each tensor W that it changes two thin matrices A and B (``W.lora_a``,
``W.lora_b``); the model then computes with ``W + scale * alpha / rank * B A``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from gguf_widgets.core.errors import AdapterFileError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.gguf_bytes import shown
from gguf_widgets.core.gguf_header import GgufHeader
from gguf_widgets.core.gguf_parse import GgufTensor

__all__ = ["AdapterInfo", "check_is_adapter"]

_A: Final = ".lora_a"
_B: Final = ".lora_b"
# llama.cpp steps over the changed norms that some adapters have, too.
_IGNORED: Final = "_norm.weight"


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What a person wants to know of an adapter.

    Attributes
    ----------
    name : str
    rank : int
        The largest, if they differ.
    num_changed, num_ignored : int
        Tensors of the model that it changes, and that it would change but llama.cpp does not.
    size_bytes : int
        What it takes in memory, beside the model.
    """

    name: str
    rank: int
    num_changed: int
    num_ignored: int
    size_bytes: int

    def note(self, scale: float) -> str:
        """Return a sentence for the screen."""
        ignored = (
            f" llama.cpp leaves out {self.num_ignored} changed norms that are in it."
            if self.num_ignored
            else ""
        )
        return (
            f'The adapter "{self.name}" (LoRA, rank {self.rank}, {format_bytes(self.size_bytes)})'
            f" is added with a scale of {scale:g}.{ignored}"
        )


def check_is_adapter(header: GgufHeader, model: GgufHeader) -> AdapterInfo:
    """Raise unless the first is an adapter that can be added to the second.

    Raises
    ------
    AdapterFileError
        Its message says what does not fit.
    """
    _check_kind(header, model)
    pairs, num_ignored = _pairs(header)
    tensors = {tensor.name: tensor for tensor in model.tensors}
    for name, (a, b) in pairs.items():
        target = tensors.get(name)
        if target is None:
            raise _refused(
                header,
                f'changes the tensor "{plain_text(name)}", which {shown(model.path)} does not have',
            )
        _check_shapes(header, target, a, b)
    return AdapterInfo(
        name=header.name,
        rank=max(_size(b, 0) for _, b in pairs.values()),
        num_changed=len(pairs),
        num_ignored=num_ignored,
        size_bytes=sum((a.size or 0) + (b.size or 0) for a, b in pairs.values()),
    )


def _check_kind(header: GgufHeader, model: GgufHeader) -> None:
    kind = header.text("general.type")
    if kind != "adapter":
        said = f"says that it is {plain_text(kind, 40)!r}" if kind else "is no adapter"
        raise _refused(
            header, f"{said}; an adapter is a file made by llama.cpp's convert_lora_to_gguf.py"
        )
    sort = header.text("adapter.type")
    if sort != "lora":
        raise _refused(
            header, f"is an adapter of the kind {plain_text(sort or 'unknown', 40)!r}, not a LoRA"
        )
    theirs, ours = header.architecture, model.architecture
    if theirs != ours:
        raise _refused(
            header,
            f"was made for a model of the architecture {plain_text(theirs or 'unknown', 64)!r}, and"
            f" {shown(model.path)} is {plain_text(ours, 64)!r}",
        )
    if "adapter.alora.invocation_tokens" in header.metadata:
        raise _refused(
            header,
            "works only after certain words of a prompt (an activated LoRA), which this program"
            " cannot do",
        )
    alpha = header.metadata.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float) or not math.isfinite(alpha):
        raise _refused(header, f"has an alpha (adapter.lora.alpha) that is no number: {alpha!r}")


def _pairs(header: GgufHeader) -> tuple[dict[str, tuple[GgufTensor, GgufTensor]], int]:
    """Return A and B of each tensor that is changed, and how many norms are left out."""
    halves: dict[str, dict[str, GgufTensor]] = {}
    num_ignored = 0
    for tensor in header.tensors:
        ending = tensor.name[-len(_A) :]
        if ending in (_A, _B):
            halves.setdefault(tensor.name[: -len(_A)], {})[ending] = tensor
        elif tensor.name.endswith(_IGNORED):
            num_ignored += 1
        else:
            raise _refused(
                header,
                f'holds the tensor "{plain_text(tensor.name)}", which no LoRA has (their names end'
                f" in {_A} and {_B})",
            )
    for name, found in halves.items():
        missing = {_A, _B} - set(found)
        if missing:
            raise _refused(
                header,
                f'lacks the tensor "{plain_text(name)}{missing.pop()}"; it may not be complete',
            )
    if not halves:
        raise _refused(header, "changes nothing: it has no matrices")
    return {name: (found[_A], found[_B]) for name, found in halves.items()}, num_ignored


def _check_shapes(header: GgufHeader, target: GgufTensor, a: GgufTensor, b: GgufTensor) -> None:
    inputs, outputs = _size(target, 0), _size(target, 1)
    if target.name.endswith("token_embd.weight"):  # whose rows are looked up, not multiplied
        fits = (_size(b, 1), _size(a, 1), _size(a, 0)) == (inputs, outputs, _size(b, 0))
    else:
        fits = (_size(a, 0), _size(b, 1), _size(a, 1)) == (inputs, outputs, _size(b, 0))
    # Experts are stacked, and so are their A and B.
    fits = fits and _size(a, 2) == _size(b, 2) == _size(target, 2)
    if not fits:
        raise _refused(
            header,
            f'changes "{plain_text(target.name)}" by matrices of the shapes {a.shape} and'
            f" {b.shape}, and the model's own is {target.shape}: it was made for another model",
        )


def _size(tensor: GgufTensor, dimension: int) -> int:
    return tensor.shape[dimension] if dimension < len(tensor.shape) else 1


def _refused(header: GgufHeader, why: str) -> AdapterFileError:
    return AdapterFileError(
        f"{shown(header.path)} cannot be used as an adapter: it {why}.", path=str(header.path)
    )
