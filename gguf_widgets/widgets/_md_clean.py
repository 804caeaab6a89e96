"""The last step before HTML from a model may leave Python: only what is on the list remains.

Promises: `clean` lets through the tags, attributes and values listed here and nothing else: no
address, no script, no style, no id, no form, nothing that loads; `printable` makes characters that
a terminal or a browser would act on visible. Leaves to others: making the HTML (`_md_blocks`).
"""

from __future__ import annotations

import re

import nh3
from pygments.token import STANDARD_TYPES

__all__ = ["CODE_CLASS", "clean", "printable"]

CODE_CLASS = "gw-code"

_TOKEN_CLASSES = frozenset(f"hl-{name}" for name in STANDARD_TYPES.values() if name)

_BLOCK_TEXT = ("blockquote", "h3", "h4", "h5", "h6", "li", "ol", "p", "pre", "td", "th", "ul")
_TAGS = {
    *_BLOCK_TEXT,
    *("br", "code", "div", "em", "hr", "s", "span", "strong", "table", "tbody", "thead", "tr"),
}
_ATTRIBUTES = {"div": {"data-lang"}, "ol": {"start"}, "span": {"title"}}
_VALUES = {tag: {"dir": {"auto", "ltr"}} for tag in _BLOCK_TEXT}
_CLASSES = {
    "div": {CODE_CLASS, "gw-plain", "gw-table"},
    "p": {"gw-note"},
    "span": {"gw-image", "gw-link", *_TOKEN_CLASSES},
    "td": {"gw-center", "gw-right"},
    "th": {"gw-center", "gw-right"},
}

# Made once: making it costs ten times what a short block's cleaning does.
_CLEANER = nh3.Cleaner(
    tags=_TAGS,
    attributes=_ATTRIBUTES,
    tag_attribute_values=_VALUES,
    allowed_classes=_CLASSES,
    clean_content_tags=set(),  # the text inside an unknown tag is shown, not lost
    link_rel=None,
    url_schemes=set(),
)

# Control characters but for the tab and the line feed, half characters, and the "line separators"
# that some programs take for the end of a line.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]")


def clean(html: str) -> str:
    """Return `html` with everything that is not on the list taken out."""
    return _CLEANER.clean(html)


def printable(text: str) -> str:
    """Return `text` with line ends made one and every other control character visible.

    Escape becomes the picture of Escape, Null that of Null, and so on; what has no picture becomes
    U+FFFD.
    """
    return _UNPRINTABLE.sub(_picture, text.replace("\r\n", "\n").replace("\r", "\n"))


def _picture(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return "" if code == 0xFEFF else "\ufffd"
