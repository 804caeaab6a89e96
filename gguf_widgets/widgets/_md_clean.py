"""The last step before HTML from a model may leave Python: only what is on the list remains.

Promises: `clean` lets through the tags, attributes and values listed here and nothing else: no
address, no script, no style, no id, no form, nothing that loads; `printable` makes characters that
a terminal or a browser would act on visible, `code_text` also those that turn the direction of
text. Leaves to others: making the HTML (`_md_blocks`).
"""

from __future__ import annotations

import re
from html import escape

import nh3
from pygments.token import STANDARD_TYPES

__all__ = ["CODE_CLASS", "DIRECTION_MARKS", "clean", "code_text", "mark_directions", "printable"]

CODE_CLASS = "gw-code"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOKEN_CLASSES = frozenset(f"hl-{name}" for name in STANDARD_TYPES.values() if name)

_BLOCK_TEXT = ("blockquote", "h3", "h4", "h5", "h6", "li", "ol", "p", "pre", "td", "th", "ul")
_TAGS = {
    *_BLOCK_TEXT,
    *("br", "code", "div", "em", "hr", "s", "span", "strong", "table", "tbody", "thead", "tr"),
}
# What `_md_formula` writes; no element of MathML that leads somewhere, acts or holds other markup.
_FORMULA_TAGS = _words(
    "math mfrac mi mn mo mover mpadded mphantom mroot mrow mspace msqrt mstyle msub msubsup "
    "msup mtable mtd mtext mtr munder munderover"
)
_FORMULA_ATTRIBUTES = _words(
    "accent accentunder depth displaystyle fence form height largeop linethickness lspace "
    "mathvariant maxsize minsize movablelimits rspace scriptlevel separator stretchy "
    "symmetric voffset width"
)
_FORMULA_CLASSES = {
    *("gw-bold", "gw-boxed", "gw-col-left", "gw-col-right", "gw-italic", "gw-mono"),
    *("gw-line-after", "gw-line-below"),
    *("gw-strike-both", "gw-strike-down", "gw-strike-through", "gw-strike-up"),
}
_ATTRIBUTES: dict[str, set[str]] = {
    "div": {"data-lang"},
    "ol": {"start"},
    "span": {"title"},
    **{tag: set(_FORMULA_ATTRIBUTES) for tag in _FORMULA_TAGS},
}
_VALUES = {
    **{tag: {"dir": {"auto", "ltr"}} for tag in _BLOCK_TEXT},
    "math": {"display": {"block", "inline"}},
}
_CLASSES: dict[str, set[str]] = {
    "div": {CODE_CLASS, "gw-formula", "gw-more", "gw-plain", "gw-table"},
    "p": {"gw-more", "gw-note"},
    "span": {
        *("gw-formula", "gw-image", "gw-link", "gw-mark", "gw-source", "gw-wide"),
        *_TOKEN_CLASSES,
    },
    "td": {"gw-center", "gw-right"},
    "th": {"gw-center", "gw-right"},
    **dict.fromkeys(("mrow", "mtd", "mtext"), _FORMULA_CLASSES),
}

# Made once: making it costs ten times what a short block's cleaning does.
_CLEANER = nh3.Cleaner(
    tags=_TAGS | _FORMULA_TAGS,
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
# Characters that turn the direction of the text after them, and cannot be seen.
DIRECTION_MARKS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(html: str) -> str:
    """Return `html` with everything that is not on the list taken out."""
    return _CLEANER.clean(html)


def printable(text: str) -> str:
    """Return `text` with line ends made one and every other control character visible.

    Escape becomes the picture of Escape, Null that of Null, and so on; what has no picture becomes
    U+FFFD.
    """
    return _UNPRINTABLE.sub(_picture, text.replace("\r\n", "\n").replace("\r", "\n"))


def code_text(text: str) -> str:
    """Return the HTML of a text that must be read as it is written, such as code."""
    return mark_directions(escape(text, quote=False))


def mark_directions(html: str) -> str:
    """Put the names of characters that turn the direction of text in their place.

    With them, code can look like other code than it is; so what is copied has the names, too.
    """
    return DIRECTION_MARKS.sub(_named, html)


def _named(found: re.Match[str]) -> str:
    title = "A character that cannot be seen and turns the direction of the text after it"
    return f'<span class="gw-mark" title="{title}">U+{ord(found.group()):04X}</span>'


def _picture(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return "" if code == 0xFEFF else "\ufffd"
