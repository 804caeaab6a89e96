"""Run GGUF language models on your own machine, from Jupyter.

Promises: the names below are the public face, each imported when it is first used, so that
``import gguf_widgets`` costs next to nothing. Leaves to others: everything they do.

Examples
--------
>>> import gguf_widgets as gw
>>> model = gw.load("demo")
>>> model.chat("Hello", temperature=0).text  # doctest: +SKIP
'Hello! ...'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gguf_widgets.core import errors
    from gguf_widgets.core.chat import ChatInterface
    from gguf_widgets.core.gguf import read_header
    from gguf_widgets.core.library import models
    from gguf_widgets.core.manager import ModelManager, load
    from gguf_widgets.core.model import Model
    from gguf_widgets.core.types import FinishReason, ModelInfo, Reply, SamplingSettings
    from gguf_widgets.core.workers import workers
    from gguf_widgets.dashboard.dashboard import Dashboard
    from gguf_widgets.widgets.chat_box import ChatBox
    from gguf_widgets.widgets.model_picker import ModelPicker
    from gguf_widgets.widgets.model_uploader import ModelUploader

__version__ = "0.1.0"

# Where each public name lives. A test holds this table, `__all__` and the imports above together.
_HOMES = {
    "ChatBox": "gguf_widgets.widgets.chat_box",
    "ChatInterface": "gguf_widgets.core.chat",
    "Dashboard": "gguf_widgets.dashboard.dashboard",
    "FinishReason": "gguf_widgets.core.types",
    "Model": "gguf_widgets.core.model",
    "ModelInfo": "gguf_widgets.core.types",
    "ModelManager": "gguf_widgets.core.manager",
    "ModelPicker": "gguf_widgets.widgets.model_picker",
    "ModelUploader": "gguf_widgets.widgets.model_uploader",
    "Reply": "gguf_widgets.core.types",
    "SamplingSettings": "gguf_widgets.core.types",
    "errors": "gguf_widgets.core.errors",
    "load": "gguf_widgets.core.manager",
    "models": "gguf_widgets.core.library",
    "read_header": "gguf_widgets.core.gguf",
    "workers": "gguf_widgets.core.workers",
}

__all__ = [
    "ChatBox",
    "ChatInterface",
    "Dashboard",
    "FinishReason",
    "Model",
    "ModelInfo",
    "ModelManager",
    "ModelPicker",
    "ModelUploader",
    "Reply",
    "SamplingSettings",
    "errors",
    "load",
    "models",
    "read_header",
    "workers",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(home)
    value = module if name == "errors" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
