"""HTML that a model's text was made into: only what is allowed is in it, and what it says.

Not a test and no fixture.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

ALLOWED = {
    "blockquote": {"dir"},
    "br": set(),
    "code": set(),
    "div": {"class", "data-lang"},
    "em": set(),
    "h3": {"dir"},
    "h4": {"dir"},
    "h5": {"dir"},
    "h6": {"dir"},
    "hr": set(),
    "li": {"dir"},
    "ol": {"start"},
    "p": {"class", "dir"},
    "pre": {"dir"},
    "s": set(),
    "span": {"class", "title"},
    "strong": set(),
    "table": set(),
    "tbody": set(),
    "td": {"class", "dir"},
    "th": {"class", "dir"},
    "thead": set(),
    "tr": set(),
    "ul": set(),
}
CLASS = re.compile(r"gw-(code|plain|table|note|image|link|center|right)|hl-\w{1,3}|")


class Checker(HTMLParser):
    """Fails at anything that is not allowed, and collects the text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        for name, value in attrs:
            assert name in ALLOWED[tag], (tag, name)
            if name == "class":
                assert all(CLASS.fullmatch(part) for part in (value or "").split()), value
            elif name == "dir":
                assert value in ("auto", "ltr")
            elif name == "data-lang":
                assert re.fullmatch(r"[a-z0-9+#._-]{0,30}", value or ""), value
        if tag not in ("br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        pytest.fail(f"a comment: {data!r}")

    def handle_decl(self, decl: str) -> None:
        pytest.fail(f"a declaration: {decl!r}")

    def handle_pi(self, data: str) -> None:
        pytest.fail(f"an instruction: {data!r}")


def text_of(rendered: str) -> str:
    checker = Checker()
    checker.feed(rendered)
    checker.close()
    assert checker.open == []
    return "".join(checker.text)
