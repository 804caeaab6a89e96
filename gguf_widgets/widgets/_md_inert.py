"""Taking out of parsed Markdown what leads or loads somewhere, before it becomes HTML.

Promises: after `inert` there is no link and no image among the tokens, only their words and their
addresses as text; formulas are drawn, or shown as they are written, with the reason. Leaves to
others: parsing and limits (`_md_blocks`), the last word on what may pass (`_md_clean`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape

from markdown_it.token import Token

from gguf_widgets.widgets._md_clean import code_text
from gguf_widgets.widgets._md_code import code_html, language_of
from gguf_widgets.widgets._md_formula import formula

__all__ = ["inert"]

_WIDE = 40  # the source of a formula that may be wider than a narrow page

# Each takes its direction from its own text, so that one cannot turn another's.
_DIRECTED = {"blockquote", "h3", "h4", "h5", "h6", "li", "p", "td", "th"}


def inert(tokens: Iterable[Token], may_draw: Callable[[int], bool]) -> list[Token]:
    """Return the tokens to render in place of these; they may be changed in place.

    Parameters
    ----------
    tokens : iterable of Token
    may_draw : callable
        Told the length of each formula in characters; returns whether it may be drawn.
    """
    new: list[Token] = []
    for token in tokens:
        if token.children:
            token.children = inert(token.children, may_draw)
        if token.type in ("formula", "formula_block"):
            new.append(_formula(token, can_draw=may_draw(len(token.content))))
        else:
            new += _replaced(token)
    return new


def _replaced(token: Token) -> list[Token]:
    kind = token.type
    if kind == "link_open":
        return [_span("gw-link", str(token.attrGet("href") or ""))]
    if kind == "link_close":
        return [_END]
    if kind == "image":
        return _image(token)
    if kind == "code_inline":
        return [_html(f"<code>{code_text(token.content)}</code>")]
    if kind == "fence":
        return [_html(code_html(token.content, language_of(token.info)))]
    if kind == "code_block":
        return [_html(code_html(token.content, ""))]
    if kind == "table_open":
        return [_html('<div class="gw-table">'), token]
    if kind == "table_close":
        return [token, _html("</div>\n")]
    if kind in ("heading_open", "heading_close"):
        # Below the headings of the page: the first level becomes the third.
        token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    elif kind in ("th_open", "td_open"):
        aligned = str(token.attrGet("style") or "").removeprefix("text-align:")
        token.attrs = {"class": f"gw-{aligned}"} if aligned in ("center", "right") else {}
    if token.nesting == 1 and token.tag in _DIRECTED:
        token.attrSet("dir", "auto")
    return [token]


def _formula(token: Token, *, can_draw: bool) -> Token:
    is_block = token.type == "formula_block"
    is_display = token.markup not in ("$", "\\(")
    html, fault = "", "there are too many in this text"
    if can_draw:
        html, fault = formula(token.content, display=is_display)
    if not html:
        title = f"This formula is shown as it is written (LaTeX): {fault}."
        html = f'<span class="gw-source" title="{escape(title)}">{code_text(token.info)}</span>'
    if is_block:
        return _html(f'<div class="gw-formula">{html}</div>\n')
    if is_display or len(token.content) > _WIDE:
        kind = "gw-formula" if is_display else "gw-wide"
        return _html(f'<span class="{kind}">{html}</span>')
    return _html(html)


def _image(token: Token) -> list[Token]:
    address = str(token.attrGet("src") or "")
    words = "".join(_words(token.children or [])).strip()
    text = Token(
        "text", "", 0, content=f"[Image: {words} ({address})]" if words else f"[{address}]"
    )
    return [_span("gw-image", address), text, _END]


def _words(tokens: Iterable[Token]) -> Iterable[str]:
    for token in tokens:
        yield token.content
        yield from _words(token.children or [])


def _span(name: str, address: str) -> Token:
    return Token("gw_open", "span", 1, attrs={"class": name, "title": address})


def _html(html: str) -> Token:
    return Token("html_block", "", 0, content=html)


_END = Token("gw_close", "span", -1)
