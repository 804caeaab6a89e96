"""A conversation where no page runs: in a saved notebook, in an exported one, in a file.

Promises: importing this makes the core's exports render Markdown (`markdown`, where it is
sanitised) instead of showing it as it was written. A chat box that is shown in a notebook leaves a
second output beside its view: the conversation as plain HTML, brought up to date whenever an answer
has ended. A page with a live view hides it; where there is no kernel, and in an exported notebook,
it is what one reads. It costs the answer no time, and a notebook no more than `_MAX_BYTES`. Leaves
to others: the HTML itself (`core.chat.export.html_form`).
"""

from __future__ import annotations

import html
import logging
import os
from typing import TYPE_CHECKING, Any, ClassVar, Final

from gguf_widgets.core.chat.export.rendering import use_renderer
from gguf_widgets.core.chat.types import ChatEvent, EventKind
from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.widgets._actor import Actor

if TYPE_CHECKING:
    from gguf_widgets.core.chat.interface import ChatInterface

__all__ = ["StaticCopy", "rendered"]

_VIEW: Final = "application/vnd.jupyter.widget-view+json"
_MAX_BYTES: Final = 2_000_000
_CHANGES: Final = frozenset({EventKind.UPDATED, EventKind.RESET})

_log = logging.getLogger(__name__)


def rendered(text: str) -> str:
    """Return Markdown as sanitised HTML."""
    from gguf_widgets.widgets.markdown import to_html

    return to_html(text)


class StaticCopy:
    """The output that keeps a chat box's conversation readable without a kernel.

    Parameters
    ----------
    chat : ChatInterface
    owner_id : str
        The widget's id: its live views hide this copy.
    """

    _shown: ClassVar[int] = 0  # outputs made, so that each has a name of its own

    def __init__(self, chat: ChatInterface, owner_id: str) -> None:
        self._chat, self._owner_id = chat, owner_id
        self._display_ids: list[str] = []
        self._last = ""
        self._actor = Actor(f"StaticCopy-{owner_id[:8]}", lambda _item: self._refresh())
        self._unsubscribe = chat.subscribe(self._take)

    def show(self, view: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Display a widget's view, and beside it the copy.

        Parameters
        ----------
        view, metadata : dict
            What the widget itself would display.
        """
        from IPython.display import display

        if _VIEW not in view or _in_voila():
            display(view, metadata=metadata, raw=True)  # type: ignore[no-untyped-call]
            return
        # Where the view cannot be shown, nothing: the copy stands below it.
        beside = {**view, "text/html": ""}
        display(beside, metadata=metadata, raw=True)  # type: ignore[no-untyped-call]
        StaticCopy._shown += 1
        name = f"gw-{self._owner_id}-{StaticCopy._shown}"
        self._last = self._html()
        display(self._bundle(), raw=True, display_id=name)  # type: ignore[no-untyped-call]
        self._display_ids = [*self._display_ids[-9:], name]

    def close(self) -> None:
        """Leave the outputs as they are from now on."""
        self._unsubscribe()
        self._actor.close()

    def _take(self, event: ChatEvent) -> None:
        if event.kind in _CHANGES and self._display_ids:
            self._actor.post(event)

    def _refresh(self) -> None:
        from IPython.display import update_display

        text = self._html()
        if text == self._last:
            return
        self._last = text
        for name in self._display_ids:
            update_display(  # type: ignore[no-untyped-call]
                self._bundle(), raw=True, display_id=name
            )

    def _bundle(self) -> dict[str, str]:
        return {"text/html": self._last, "text/plain": ""}

    def _html(self) -> str:
        from gguf_widgets.core.chat.export import html_of

        inner = ""
        try:
            if self._chat.messages:
                inner = html_of(self._chat)
                if len(inner) > _MAX_BYTES:
                    inner = html_of(self._chat, files=False)
                if len(inner) > _MAX_BYTES:
                    inner = (
                        "<p>This conversation is too long to be kept in the notebook. It is in "
                        "the store; a cell with <code>box.chat.save('conversation.html')</code> "
                        "writes it into a file.</p>"
                    )
        except GgufWidgetsError as error:
            _log.warning("The conversation could not be put into the notebook: %s", error.message)
            inner = f"<p>{html.escape(error.message)}</p>"
        return (
            f'<div class="gw-static" data-gw-static="{html.escape(self._owner_id)}">{inner}</div>'
        )


def _in_voila() -> bool:
    # Voila shows the live page only, and nobody saves what it shows.
    return os.environ.get("SERVER_SOFTWARE", "").startswith("voila")


use_renderer(rendered)
