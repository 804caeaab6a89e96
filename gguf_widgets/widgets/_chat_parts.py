"""Which parts the chat box has, in the order in which the page shows them.

Promises: a part that is not named here does not exist. Leaves to others: what a part is
(`_chat_part`), and its page side, which `static/chat_box.js` names in the same order.
"""

from __future__ import annotations

from gguf_widgets.widgets._chat_acts import ActsPart
from gguf_widgets.widgets._chat_inside import InsidePart
from gguf_widgets.widgets._chat_library import LibraryPart
from gguf_widgets.widgets._chat_part import ChatPart
from gguf_widgets.widgets._chat_settings import SettingsPart
from gguf_widgets.widgets._chat_tools import ToolsPart
from gguf_widgets.widgets._chat_writing import WritingPart

__all__ = ["PARTS", "STYLES"]

PARTS: tuple[type[ChatPart], ...] = (
    ToolsPart,
    ActsPart,
    LibraryPart,
    InsidePart,
    SettingsPart,
    WritingPart,
)

STYLES: tuple[str, ...] = (
    "_chat_side.css",
    "_chat_reading.css",
    "_chat_acts.css",
    "_chat_tools.css",
    "_chat_library.css",
    "_chat_inside.css",
    "_chat_settings.css",
    "_chat_writing.css",
)
"""Style sheets of the parts, in static/, after the chat's own."""
