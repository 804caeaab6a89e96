"""How a model's Markdown becomes HTML in exports: plain, unless the widgets bring what renders it.

The core may not import the widgets, and Markdown becomes HTML in one place only, theirs. So whoever
has both (`gguf_widgets` itself, a widget) hands the renderer over here, once.

Promises: without a renderer every text is shown as it was written; in either case nothing of a text
is HTML that was not sanitised. Leaves to others: Markdown (`widgets.markdown`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

__all__ = ["Render", "escaped", "plain", "renderer", "use_renderer"]

Render = Callable[[str], str]

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]")

_renderer: Render | None = None


def use_renderer(render: Render | None) -> None:
    """Set what turns Markdown into sanitised HTML in exports; None goes back to plain text."""
    global _renderer  # noqa: PLW0603 - the one place that owns it
    _renderer = render


def renderer() -> Render:
    """Return what turns a model's text into HTML at this moment."""
    return _renderer or plain


def plain(text: str) -> str:
    """Return a text as HTML that shows it as it was written."""
    return f'<div class="gw-plain" dir="auto">{escaped(text)}</div>'


def escaped(text: str) -> str:
    """Return a text as HTML shows it, with control characters replaced."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return html.escape(_UNPRINTABLE.sub("\ufffd", text))
