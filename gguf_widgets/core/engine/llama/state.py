"""One sequence's state as bytes, and back.

Promises: every answer of llama.cpp is checked. What was seen in its source and tried on models of
each kind (llama-cpp-python 0.3.36): the state holds a sequence's cells with their positions; of a
sliding window's layers only the cells inside the window, so that what is put back can be continued
and not cut; of a running state the one there is. It holds neither tokens nor anything about the
model, and llama.cpp believes most of what it reads: only its own states are handed to it
(`core.state_file`). Leaves to others: whose state it is, and room for it (`engine.state`).
"""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.engine.state import new_state
from gguf_widgets.core.errors import DecodeError
from gguf_widgets.core.types import LoadSettings

__all__ = ["describe_format", "read_state", "write_state"]

_Bytes = ctypes.POINTER(ctypes.c_uint8)


def describe_format(model: Any, settings: LoadSettings) -> str:
    """Return what must be the same for a state to be read back as it was written.

    Some models have two sets of numbers for positions, one for contexts that are longer than their
    first training; the keys in a state have one of them in them. Where slots have caches of their
    own, a state lists them all.
    """
    parts = [
        f"llama-cpp-python {lib.__version__} (llama.cpp {lib.llama_version().decode()})",
        f"sequence state {lib.LLAMA_STATE_SEQ_VERSION}",
    ]
    trained = _first_training(model)
    if trained is not None:
        long = (settings.n_ctx or 0) > trained
        parts.append("long-context positions" if long else "short-context positions")
    if not settings.kv_unified:
        parts.append(f"{settings.n_seq_max} caches")
    return ", ".join(parts)


def _first_training(model: Any) -> int | None:
    architecture = _metadata(model, "general.architecture")
    text = _metadata(model, f"{architecture}.rope.scaling.original_context_length")
    return int(text) if text is not None and text.isdecimal() else None


def _metadata(model: Any, key: str) -> str | None:
    buffer = ctypes.create_string_buffer(256)
    length = lib.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if length >= 0 else None


def read_state(context: Any, seq_id: int) -> NDArray[np.uint8]:
    """Return a copy of a sequence's state.

    Raises
    ------
    DecodeError
        If llama.cpp does not give it.
    StateFileError
        If there is no memory for the copy.
    """
    size = int(lib.llama_state_seq_get_size(context, seq_id))
    if size <= 0:
        raise DecodeError("llama.cpp did not say how large the model's memory of this text is.")
    state = new_state(size)
    count = int(lib.llama_state_seq_get_data(context, state.ctypes.data_as(_Bytes), size, seq_id))
    if count != size:
        raise DecodeError(
            f"llama.cpp gave {count:,} of the {size:,} bytes of the model's memory of this text."
        )
    return state


def write_state(context: Any, seq_id: int, state: NDArray[np.uint8]) -> bool:
    """Put a state into an empty sequence; False if llama.cpp did not take all of it.

    The sequence is to be emptied then: part of it may be there.
    """
    state = np.ascontiguousarray(state, np.uint8)
    count = lib.llama_state_seq_set_data(context, state.ctypes.data_as(_Bytes), state.size, seq_id)
    return int(count) == state.size
