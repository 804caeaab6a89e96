"""The forms in which a model's numbers can be kept: what each means, its size, what is possible.

Promises: names as llama.cpp and download pages write them; each in a simple sentence; for a model,
an estimate of the size in each (within some percent for models of ordinary shape; `convert` finds
out the exact one) and, where one is not possible, why. Leaves to others: doing it (`converting`).

Bits per weight are what llama.cpp's ``tools/quantize/README.md`` measured on Llama 3.1 8B, and for
forms that are not there what its program's help says of Llama 3 8B.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any, Final

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.gguf_header import GgufHeader
from gguf_widgets.core.gguf_parse import GgufTensor
from gguf_widgets.core.gguf_tables import FILE_TYPES

__all__ = [
    "ALIGNMENT",
    "PLAIN_TYPES",
    "Quantization",
    "QuantizationList",
    "checked_quantization",
    "file_type_of",
    "quantizations_of",
    "quantized_types",
    "refusal",
]

PLAIN_TYPES: Final = frozenset({"F32", "F16", "BF16"})
"""Numbers that are not quantized, so that making smaller ones of them loses nothing on the way."""

ALIGNMENT: Final = 32
"""What llama.cpp's conversion pads tensors to, whatever the header says."""

_ABOUT: Final[dict[str, tuple[float, str]]] = {
    "F32": (32.0, "Full precision: twice as large as F16 and no better for nearly every model."),
    "F16": (16.0, "Half precision: what most models are published in. The best start for others."),
    "BF16": (16.0, "Half precision with a wider range, as many models are trained in."),
    "Q8_0": (8.5, "Half the size of F16; no difference can be seen."),
    "Q6_K": (6.56, "Nearly as good as Q8_0 and a quarter smaller."),
    "Q5_K_M": (5.70, "Very good; the loss is hard to see."),
    "Q5_K_S": (5.57, "Very good; a little smaller than Q5_K_M."),
    "Q5_1": (6.04, "An older form; Q5_K_M is smaller and as good."),
    "Q5_0": (5.57, "An older form; Q5_K_S is as small and better."),
    "Q4_K_M": (4.89, "The usual choice: small, and good enough for nearly everything."),
    "Q4_K_S": (4.67, "A little smaller than Q4_K_M, and a little worse."),
    "IQ4_NL": (4.68, "Like Q4_K_S; for models whose rows do not go with that one."),
    "IQ4_XS": (4.46, "The smallest that still counts as good; somewhat slower on a CPU."),
    "Q4_1": (5.11, "An older form; Q4_K_M is smaller and better."),
    "Q4_0": (4.64, "An older form; fast on some CPUs, worse than Q4_K_S."),
    "Q3_K_L": (4.30, "Small, with a loss that shows now and then."),
    "Q3_K_M": (4.00, "Small, with a loss that shows."),
    "Q3_K_S": (3.64, "Very small, with a loss that shows clearly."),
    "IQ3_M": (3.76, "Very small; better than Q3_K_S and slower on a CPU."),
    "IQ3_S": (3.66, "Very small; better than Q3_K_S and slower on a CPU."),
    "Q2_K": (3.16, "The smallest; only for large models that fit in no other way."),
}

# A matrix whose rows are no multiple of 256 numbers goes into another form, of so many bits
# (llama.cpp, `tensor_type_fallback`); one whose rows are no multiple of 32 stays at 16.
_SMALL_BLOCK: Final = 32
_LARGE_BLOCK: Final = 256
_FALLBACK_BITS: Final = {
    "Q6": 8.5, "Q5": 6.0, "Q4": 5.5, "Q3": 4.5, "Q2": 4.5, "IQ4": 4.5, "IQ3": 4.5,
}  # fmt: skip

_OUTPUT_BITS: Final = 6.5625  # Q6_K
_OUTPUT_SHARE: Final = 0.07  # of the model that the figures above were measured on

# llama.cpp refuses these without an importance matrix: what comes out would be of no use.
_NEED_MATRIX: Final = (
    "IQ1_M", "IQ1_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_XS", "IQ3_XXS", "Q2_K_S",
)  # fmt: skip
# Forms for models that were trained in them; of any other they make nonsense.
_TRAINED: Final = ("MXFP4", "NVFP4", "Q1_0", "Q2_0", "TQ1_0", "TQ2_0")
# What llama.cpp's own program takes for each, too.
_ALIASES: Final = {
    "Q3_K": "Q3_K_M",
    "Q4_K": "Q4_K_M",
    "Q5_K": "Q5_K_M",
    "FP16": "F16",
    "FP32": "F32",
}


@dataclass(frozen=True, slots=True)
class Quantization:
    """One form, and what it would be for a model.

    Attributes
    ----------
    name : str
    meaning : str
        A simple sentence.
    bits_per_weight : float
    size_bytes : int or None
        About what the file would be; None without a model.
    refusal : str or None
        Why this model cannot be converted to it; None if it can.
    loses_quality : bool
        The model is quantized already, so that it has to be asked for on purpose.
    """

    name: str
    meaning: str
    bits_per_weight: float
    size_bytes: int | None = None
    refusal: str | None = None
    loses_quality: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "name": self.name,
            "meaning": self.meaning,
            "bits_per_weight": self.bits_per_weight,
            "size_bytes": self.size_bytes,
            "refusal": self.refusal,
            "loses_quality": self.loses_quality,
        }


class QuantizationList(list[Quantization]):
    """Forms as a list that shows itself as a table."""

    _HEADINGS: Final = ("Name", "About", "Meaning")

    def __repr__(self) -> str:
        # Not `as_text`, which cuts sentences.
        rows = [self._HEADINGS, *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        return "\n".join(
            f"{row[0].ljust(widths[0])}  {row[1].ljust(widths[1])}  {row[2]}" for row in rows
        )

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        rows = [self._HEADINGS, *self._rows()]
        cells = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
        head = cells[0].replace("td>", "th>")
        body = "".join(f"<tr>{row}</tr>" for row in cells[1:])
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _rows(self) -> list[tuple[str, str, str]]:
        return [
            (
                one.name,
                f"{one.bits_per_weight:g} bits"
                if one.size_bytes is None
                else format_bytes(one.size_bytes),
                one.meaning if one.refusal is None else f"Not possible: {one.refusal}",
            )
            for one in self
        ]


def checked_quantization(name: str) -> str:
    """Return the name of a form as llama.cpp writes it.

    Raises
    ------
    InvalidValueError
        If there is none of that name, or none that this program makes; the message says why.
    """
    text = name.strip().upper().replace("-", "_") if isinstance(name, str) else repr(name)
    text = _ALIASES.get(text, text)
    if text in _ABOUT:
        return text
    if text in _NEED_MATRIX:
        raise InvalidValueError(
            f"{text} needs an importance matrix, which is computed from the model and much text "
            "and which this program does not make. The smallest without one are Q2_K and IQ3_S.",
            value=text,
        )
    if text in _TRAINED:
        raise InvalidValueError(
            f"{text} is only for models that were trained in it; of any other it makes nonsense. "
            "The smallest for all models are Q2_K and IQ3_S.",
            value=text,
        )
    raise InvalidValueError(
        f"There is no quantization {text[:40]!r}. There are: {', '.join(_ABOUT)}.", value=text[:40]
    )


def file_type_of(name: str) -> int:
    """Return the number that llama.cpp has for a form (`llama_ftype`)."""
    return next(number for number, known in FILE_TYPES.items() if known == name)


def quantizations_of(header: GgufHeader | None = None) -> QuantizationList:
    """Return every form that this program makes, the largest first.

    Parameters
    ----------
    header : GgufHeader, optional
        A model: sizes and what is possible are for this one.
    """
    found = QuantizationList()
    for name, (bits, meaning) in sorted(_ABOUT.items(), key=lambda item: -item[1][0]):
        if header is None:
            found.append(Quantization(name, meaning, bits))
            continue
        found.append(
            Quantization(
                name,
                meaning,
                bits,
                size_bytes=_estimate(header, name, bits),
                refusal=refusal(header, name),
                loses_quality=bool(quantized_types(header)),
            )
        )
    return found


def quantized_types(header: GgufHeader) -> list[str]:
    """Return the types of a model's weights that have lost something already."""
    return sorted({tensor.type for tensor in header.tensors if _is_weight(tensor)} - PLAIN_TYPES)


def refusal(header: GgufHeader, name: str) -> str | None:
    """Return why a model cannot be converted to a form, as far as its header tells; else None."""
    weights = [tensor for tensor in header.tensors if _is_weight(tensor)]
    if not weights:
        return "it has no weights that could be converted."
    unknown = next((tensor for tensor in header.tensors if tensor.size is None), None)
    if unknown is not None:
        return f"it holds numbers of a kind that this program does not know ({unknown.type})."
    if header.alignment != ALIGNMENT:
        return (
            f"its tensors are aligned to {header.alignment} bytes, and llama.cpp's conversion "
            f"writes only {ALIGNMENT}."
        )
    types = {tensor.type for tensor in weights}
    if types == {name} or (header.info().quantization == name and name not in PLAIN_TYPES):
        return f"it is {name} already."
    return None


def _is_weight(tensor: GgufTensor) -> bool:
    """Tell what llama.cpp converts, roughly: matrices that are no norms."""
    dims = [size for size in tensor.shape if size > 1]
    return (
        len(dims) >= 2
        and tensor.name.endswith("weight")
        and "_norm.weight" not in tensor.name
        and not tensor.type.startswith(("I8", "I16", "I32", "I64", "F64"))
    )


def _estimate(header: GgufHeader, name: str, bits: float) -> int:
    size = header.size_bytes - header.tensor_bytes
    names = {tensor.name for tensor in header.tensors}
    output = "output.weight" if "output.weight" in names else "token_embd.weight"
    for tensor in header.tensors:
        if _is_weight(tensor):
            each = _bits_of(tensor, name, bits, is_output=tensor.name == output)
            size += math.ceil(tensor.num_elements * each / 8)
        else:
            size += tensor.size or 0
    return size


def _bits_of(tensor: GgufTensor, name: str, bits: float, *, is_output: bool) -> float:
    """Return about how many bits a number of this tensor takes (`llama_tensor_get_type_impl`)."""
    row = tensor.shape[0]
    if name in PLAIN_TYPES:
        return bits
    if row % _SMALL_BLOCK:
        return 16.0
    has_large_blocks = "_K" in name or name in ("IQ4_XS", "IQ3_M", "IQ3_S")
    does_not_go = has_large_blocks and row % _LARGE_BLOCK
    if is_output:  # kept better than the rest, since every word comes out of it
        return max(bits, 8.5 if row % _LARGE_BLOCK else _OUTPUT_BITS)
    if does_not_go:
        return _FALLBACK_BITS[name.partition("_")[0]]
    # The measured figures are over a whole model; its layers have less where its output has more.
    return bits - max(0.0, _OUTPUT_BITS - bits) * _OUTPUT_SHARE
