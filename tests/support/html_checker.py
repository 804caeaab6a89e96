"""HTML that a model's text was made into: only what is allowed is in it, and what it says.

Written apart from the program's own lists, so that a slip there is found here.

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
# Formulas: elements that only draw, with attributes that only move by a little.
_LENGTHS = {"depth", "height", "lspace", "maxsize", "minsize", "rspace", "voffset", "width"}
_SWITCHES = {"accent", "accentunder", "displaystyle", "fence", "largeop", "movablelimits"} | {
    *("separator", "stretchy", "symmetric"),
}
FORMULA = {
    **dict.fromkeys(("mi", "mn", "mo", "mtext", "mspace"), "text"),
    **dict.fromkeys(("math", "mfrac", "mover", "mpadded", "mphantom", "mroot", "mrow"), "parts"),
    **dict.fromkeys(("msqrt", "mstyle", "msub", "msubsup", "msup", "mtable", "mtd"), "parts"),
    **dict.fromkeys(("mtr", "munder", "munderover"), "parts"),
}
_FORMULA_CLASS = re.compile(
    r"gw-(bold|italic|mono|boxed|col-(left|right)|line-(after|below)|strike-(up|down|both|through))|"
)
_LENGTH = re.compile(r"[-+]?\d{1,2}(\.\d{1,4})?(e-0\d)?em")
CLASS = re.compile(
    r"gw-(code|plain|table|note|image|link|center|right|more|formula|mark|source|wide)|hl-\w{1,3}|"
)
# The only HTML that may hold more than the above; it comes word for word.
THINKING = '<details class="gw-thinking"><summary>What the model thought</summary>'
MAX_DEPTH = 200


class Checker(HTMLParser):
    """Fails at anything that is not allowed, and collects the text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(self.open) < MAX_DEPTH
        assert len({name for name, _ in attrs}) == len(attrs), attrs
        if tag in FORMULA:
            self.check_formula(tag, attrs)
            return
        assert tag in ALLOWED, tag
        # Nothing of HTML inside a formula: a parser could leave the formula there.
        assert not any(name in FORMULA for name in self.open), (tag, self.open)
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

    def check_formula(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        inside = bool(self.open) and self.open[-1] in FORMULA
        assert inside == (tag != "math"), (tag, self.open)
        assert not inside or FORMULA[self.open[-1]] == "parts", (tag, self.open)
        for name, given in attrs:
            value = given or ""
            if name == "class":
                assert all(_FORMULA_CLASS.fullmatch(part) for part in value.split()), value
            elif name in _LENGTHS or name == "linethickness":
                assert _LENGTH.fullmatch(value), (name, value)
            elif name in _SWITCHES:
                assert value in ("true", "false"), (name, value)
            else:
                allowed = {
                    "display": {"block", "inline"},
                    "form": {"prefix", "infix", "postfix"},
                    "mathvariant": {"normal"},
                    "scriptlevel": {"0", "1", "2", "3"},
                }
                assert value in allowed.get(name, set()), (tag, name, value)
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
    """Check HTML, and return its text.

    Thinking comes between two pieces of HTML that are always the same; they are taken out first.
    """
    assert rendered.count("<details") == rendered.count(THINKING) >= rendered.count("</details>")
    checker = Checker()
    checker.feed(rendered.replace(THINKING, "").replace("</details>", ""))
    checker.close()
    assert checker.open == []
    return "".join(checker.text)
