"""From a conversation to a table: its prompt goes into the table, or becomes a cell that runs it.

Promises: where the table is, it is shown the prompt at once; where there is none, the page gets the
cell. Leaves to others: the template itself (`_chat_template`), the table (`batch_table`).
"""

from __future__ import annotations

from typing import Any, ClassVar

from gguf_widgets.widgets._chat_part import ChatPart, Content
from gguf_widgets.widgets._chat_template import cell_of, changed_sampling, marked_template

__all__ = ["OverTablePart"]


class OverTablePart(ChatPart):
    """The button "Run this over a table"."""

    NAME = "table"
    table: Any = None  # a BatchTable; not imported, which would load it with every chat

    def _over_table(self, content: Content, _buffers: list[Any]) -> Content:
        chat = self.host.chat
        template = marked_template(chat, content.get("marked"))
        if self.table is None:
            text, left = cell_of(chat, template)
            return {"cell": text, "left": left}
        self.table.use_template(
            template,
            model=None if chat.model is None else chat.model.name,
            sampling=changed_sampling(chat),
        )
        return {"is_there": True}

    ACTIONS: ClassVar = {"over_table": _over_table}
