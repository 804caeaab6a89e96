"""The backend on llama.cpp. The only folder that imports llama_cpp; its codes become errors here.

Leaves to others: what is computed when (`engine.scheduler`), and everything else that is no call
into the library.
"""

from __future__ import annotations

from gguf_widgets.core.engine.llama.backend import LlamaBackend

__all__ = ["LlamaBackend"]
