"""LoRA adapters: small changes to a model's weights, added while it computes.

Promises: each adapter is loaded once and works in every context of the model, with the scale it was
given at loading; the model's own weights stay as they are in the file, mapped and shared. Leaves to
others: judging the files (`gguf_adapter`), before this code sees them.

A scale is fixed for as long as the model is loaded: a worker is shared, what is in its cache was
computed with these scales, and another one costs no more than loading again, which maps the same
weights.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import llama_cpp as lib

from gguf_widgets.core.engine.llama.library import log
from gguf_widgets.core.errors import AdapterFileError
from gguf_widgets.core.types import LoadSettings

__all__ = ["Adapters"]


class Adapters:
    """The adapters of one model. They are freed with it.

    To be made before the model's contexts: llama.cpp sizes their graphs for what is there then.

    Parameters
    ----------
    model : the native model
    settings : LoadSettings

    Raises
    ------
    AdapterFileError
        With llama.cpp's reason.
    """

    def __init__(self, model: Any, settings: LoadSettings) -> None:
        self._adapters = settings.lora
        self._handles = [_load(model, Path(path)) for path, _ in self._adapters]

    def apply(self, context: Any) -> None:
        """Let a context of the model compute with them."""
        count = len(self._handles)
        if count:
            handles = (lib.llama_adapter_lora_p_ctypes * count)(*self._handles)
            scales = (ctypes.c_float * count)(*(scale for _, scale in self._adapters))
            lib.llama_set_adapters_lora(context, handles, count, scales)

    @property
    def description(self) -> str:
        """What tells one set of adapters from another; "" for none."""
        parts = []
        for path, scale in self._adapters:
            status = Path(path).stat()
            parts.append(f"{Path(path).name}:{status.st_size}:{status.st_mtime_ns}:{scale!r}")
        return ",".join(parts)


def _load(model: Any, path: Path) -> Any:
    log.forget()
    handle = lib.llama_adapter_lora_init(model, os.fsencode(path))
    if not handle:
        raise AdapterFileError(
            f"llama.cpp could not use {path.name} as an adapter:"
            f" {log.reason or 'it gave no reason'}.",
            path=str(path),
            reason=log.reason,
        )
    return handle
