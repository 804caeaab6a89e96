"""A model file's header, read and judged without loading the model.

Promises: `read_header` takes milliseconds and little memory for any file, however large or hostile
(a vocabulary of 151,936 tokens in 10 ms or so); every length is checked against the file before it
is trusted; what comes back has passed those checks. Files that cannot be a model are told apart and
refused, each in its own words (`check_is_model`). Leaves to others: whether it fits this machine
(`fit`), and whether llama.cpp knows the architecture (the worker).

The reading is split by concept: `gguf_tables` (numbers and names of the format), `gguf_bytes`
(checked steps over a mapped file), `gguf_values` (long values, read later), `gguf_parse` (one
file), `gguf_split` (models in several files), `gguf_header` (what the entries mean), `gguf_check`,
`gguf_adapter` (LoRA adapters), `gguf_projector` (image companions, mmproj).

Examples
--------
>>> header = read_header("model.gguf")  # doctest: +SKIP
>>> header.info().num_parameters  # doctest: +SKIP
2610240
"""

from __future__ import annotations

import os
from types import MappingProxyType

from gguf_widgets.core.config import expanded
from gguf_widgets.core.gguf_adapter import AdapterInfo, check_is_adapter
from gguf_widgets.core.gguf_check import check_is_model
from gguf_widgets.core.gguf_header import GgufHeader
from gguf_widgets.core.gguf_parse import GgufTensor
from gguf_widgets.core.gguf_projector import check_is_projector
from gguf_widgets.core.gguf_split import all_tensors, parse_parts
from gguf_widgets.core.gguf_values import GgufArray, GgufText, GgufValue

__all__ = [
    "AdapterInfo",
    "GgufArray",
    "GgufHeader",
    "GgufTensor",
    "GgufText",
    "GgufValue",
    "check_is_adapter",
    "check_is_model",
    "check_is_projector",
    "read_header",
]


def read_header(path: str | os.PathLike[str]) -> GgufHeader:
    """Read the header of a GGUF file, or of all parts of a split model given any one of them.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    GgufHeader
        Of any sound GGUF file: also of one that is no model (`check_is_model` tells).

    Raises
    ------
    ModelFileError
        Its subclass says what is wrong: `ModelNotFoundError`, `NotAFileError`,
        `UnreadableFileError`, `NotGgufError`, `UnsupportedVersionError`, `BigEndianFileError`,
        `TruncatedFileError`, `MalformedHeaderError` or `SplitFileError`.
    """
    parts = parse_parts(expanded(path))
    first = parts[0]
    return GgufHeader(
        path=first.path,
        version=first.version,
        size_bytes=sum(part.identity.size for part in parts),
        alignment=first.alignment,
        metadata=MappingProxyType(first.metadata),
        tensors=tuple(all_tensors(parts)),
        parts=tuple(part.path for part in parts),
    )
