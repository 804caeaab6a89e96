"""What a model's maker recommends for sampling, as the model's file says.

Promises: the published keys (``general.sampling.*``, llama.cpp's `LLM_KV_GENERAL_SAMPLING_*`) under
our names; what is not a value that could be used is named with the reason and left out, since the
file comes from anywhere. Leaves to others: whether anybody follows it (`core.chat.settings`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf import GgufArray, GgufText, read_header
from gguf_widgets.core.presets import checked_sampling
from gguf_widgets.core.settings import SamplingSettings

__all__ = ["Recommended", "recommended", "recommended_by"]

_PREFIX: Final = "general.sampling."
# As in gguf-py's constants, and our name for each.
_NAMES: Final = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
    "penalty_last_n": "repeat_last_n",
    "penalty_repeat": "repeat_penalty",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}
_MAX_NOTES: Final = 20


class Recommended(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's file recommends.

    Parameters
    ----------
    sampling : dict
        By our names, each allowed by itself and all of them together.
    notes : list of str
        What the file says besides and is not followed, each with the reason.
    """

    sampling: dict[str, Any] = {}
    notes: list[str] = []


def recommended(path: str | os.PathLike[str]) -> Recommended:
    """Read what the maker of a model file recommends; it takes milliseconds.

    Raises
    ------
    ModelFileError
        The file's header cannot be read.
    """
    return recommended_by(read_header(path).metadata)


def recommended_by(metadata: Mapping[str, Any]) -> Recommended:
    """Return what the entries of a header recommend."""
    sampling: dict[str, Any] = {}
    notes: list[str] = []
    for key, value in metadata.items():
        if not key.startswith(_PREFIX):
            continue
        ending = key.removeprefix(_PREFIX)
        name = _NAMES.get(ending)
        if name is None:
            notes.append(_not_followed(ending, value))
            continue
        try:
            sampling |= checked_sampling({name: _plain(name, value)})
        except InvalidValueError as error:
            notes.append(
                f"The model's file recommends a value that is not allowed. {error.message}"
            )
    if len(notes) > _MAX_NOTES:
        notes = [*notes[:_MAX_NOTES], f"And {len(notes) - _MAX_NOTES:,} more."]
    return Recommended(sampling=sampling, notes=notes)


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, GgufArray | GgufText | str):
        # "0.7" may be meant well, but is not what the published form says.
        raise InvalidValueError(f"{name} is no number there.", name=name)
    if isinstance(value, bool):
        return value
    is_whole = isinstance(getattr(SamplingSettings(), name), int)
    if is_whole and isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, float) and math.isfinite(value):
        value = float(f"{value:.7g}")  # 0.95 is 0.949999988... as a number of 32 bits
    if name == "top_k" and isinstance(value, int) and value < 0:
        return 0  # both are "all of them" to llama.cpp
    return value


def _not_followed(ending: str, value: Any) -> str:
    shown = plain_text(value, 40) if isinstance(value, str) else ""
    if ending == "sequence":
        return (
            f'The model\'s file names an order of the steps, "{shown}". This program keeps to its '
            "own."
        )
    return (
        f'The model\'s file recommends "{plain_text(ending, 40)}", which this version does not '
        "know."
    )
