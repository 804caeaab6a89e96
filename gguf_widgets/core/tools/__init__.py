"""Tools: Python functions that a model may ask for in a chat.

Promises: a function's signature and docstring become its schema (`toolbox`), a call its result in
words (`run`, `results`), and each template's own way to write calls is found out (`call_format`).
Leaves to others: the conversation (`core.chat.tools`), asking the person (`widgets`).
"""

from __future__ import annotations

from gguf_widgets.core.tools.results import for_model
from gguf_widgets.core.tools.toolbox import Tool, ToolBox, tool

__all__ = ["Tool", "ToolBox", "for_model", "tool"]
