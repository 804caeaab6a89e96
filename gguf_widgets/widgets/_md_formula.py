"""Formulas in LaTeX, drawn as MathML.

Promises: `formula_html` gives a ``math`` element that holds only the elements and attributes listed
here, or the reason why there is none; no address, no style, no colour, nothing that hides or covers
other text; macros are never expanded; time, size and depth are bounded. Leaves to others: finding
formulas in a text (`_md_formula_marks`), cleaning once more (`_md_clean`), the look (CSS classes
``gw-boxed``, ``gw-strike-...``, ``gw-line-...``, and of table cells).

The reading is done by latex2mathml. What browsers leave out of MathML (MathML Core) is put into
other words here: letters of a font become the letters that Unicode has for it, boxes and lines
become classes.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from html import escape
from typing import NamedTuple
from xml.etree.ElementTree import Element

from gguf_widgets.widgets._md_clean import DIRECTION_MARKS, printable
from gguf_widgets.widgets._md_letters import styled

__all__ = ["ENVIRONMENTS", "MAX_CHARS", "Formula", "formula"]

MAX_CHARS = 4_000
MAX_DEPTH = 60
MAX_ELEMENTS = 4_000
_MAX_OPEN = 40  # braces, environments and fences within each other, in the source
_CACHED = 512  # the formulas of an answer that grows are drawn again and again

# Environments of LaTeX -> what the reader calls them; "" is only a frame around a formula.
ENVIRONMENTS: dict[str, str] = {
    **dict.fromkeys(("equation", "displaymath", "math"), ""),
    **dict.fromkeys(("align", "aligned", "alignat", "alignedat", "eqnarray", "flalign"), "align*"),
    **dict.fromkeys(("gather", "gathered", "multline"), "matrix"),
    "split": "split",
    **dict.fromkeys(("cases", "dcases"), "cases"),
    **{name: name for name in ("array", "smallmatrix", "matrix", "pmatrix", "bmatrix", "Bmatrix")},
    **{name: name for name in ("vmatrix", "Vmatrix")},
}

_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{\s*([A-Za-z]+)(\*?)\s*\}")
_WITH_COUNT = re.compile(r"(\\begin\{(?:alignat|alignedat)\*?\})\s*\{\d*\}")
_ROW_SPACE = re.compile(r"(\\\\)\*?[ \t]*\[[^\]\n]{0,20}\]")
_LEFT_OUT = re.compile(r"\\(?:nonumber|notag|label\s*\{[^{}]*\})(?![A-Za-z])")
_OPERATOR = re.compile(r"(\\operatorname\*?\s*\{)([^{}]{1,60})\}")
_NEVER = re.compile(
    r"\\(?:def|g?let|edef|(?:re|provide)?newcommand|(?:re)?newenvironment|DeclareMathOperator"
    r"|require|include|input|write|catcode|csname|usepackage|documentclass)(?![A-Za-z])"
)
_REFERENCE = re.compile(r"&#x([0-9A-Fa-f]{1,8});")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TAGS = _words(
    "mfrac mi mn mo mover mpadded mphantom mroot mrow mspace msqrt mstyle msub msubsup msup "
    "mtable mtd mtext mtr munder munderover"
)
_ON_OFF = _words(
    "accent accentunder displaystyle fence largeop movablelimits separator stretchy symmetric"
)
_LENGTHS = _words("depth height linethickness lspace maxsize minsize rspace voffset width")
_WORDS = {
    "form": re.compile("prefix|infix|postfix"),
    "scriptlevel": re.compile("[0-3]"),
}
# What says nothing that must be seen, or is said by a class instead.
_DROPPED = _words(
    "class columnalign columnlines columnspacing href id linebreak mathcolor mathsize "
    "mathvariant notation rowlines rowspacing style"
)
_LENGTH = re.compile(r"([+-]?)(\d{0,4}(?:\.\d{0,6})?)\s*(em|ex|pt|px|mu|cm|mm|in|pc)?")
_EM = {"em": 1, "ex": 0.5, "pt": 0.1, "px": 0.07, "mu": 1 / 18, "cm": 2.85, "mm": 0.285, "in": 7.2}
_STRIKES = {
    "box": "gw-boxed",
    "updiagonalstrike": "gw-strike-up",
    "downdiagonalstrike": "gw-strike-down",
    "updiagonalstrike downdiagonalstrike": "gw-strike-both",
    "horizontalstrike": "gw-strike-through",
}
_TEXT_FONTS = {"bold": "gw-bold", "italic": "gw-italic", "monospace": "gw-mono"}
# How many parts an element has; with another number it is no formula.
_PARTS = {
    **dict.fromkeys(("mfrac", "mroot", "msub", "msup", "munder", "mover"), 2),
    **dict.fromkeys(("msubsup", "munderover"), 3),
}
_SCRIPTS = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}
_LIMITS = frozenset(_SCRIPTS.values())
_WITH_LIMITS = _words("argmax argmin det gcd inf lim liminf limsup max min Pr sup")
_BASED = frozenset((*_SCRIPTS, *_LIMITS))


class Formula(NamedTuple):
    """A formula drawn (`html`), or why it is not (`fault`)."""

    html: str
    fault: str


class _UnreadableError(Exception):
    """The formula cannot be drawn; the text says why, in words for a tooltip."""


@functools.lru_cache(maxsize=_CACHED)
def formula(source: str, *, display: bool) -> Formula:
    """Draw a formula.

    Parameters
    ----------
    source : str
        LaTeX, without the marks around it.
    display : bool
        Whether it stands on a line of its own.
    """
    try:
        return Formula(_drawn(source, display=display), "")
    except _UnreadableError as error:
        return Formula("", str(error))


def _drawn(source: str, *, display: bool) -> str:
    from latex2mathml.converter import Converter  # 50 ms, needed by few texts

    prepared = _prepared(source)
    try:
        math = Converter(display="block").convert_to_element(prepared)
    except RecursionError:
        raise _UnreadableError("it is nested too deeply") from None
    except Exception:  # noqa: BLE001 - the reader raises whatever it stumbles over
        raise _UnreadableError("it is not complete, or not written as LaTeX wants it") from None
    writer = _Writer()
    for child in math:
        writer.write(child, 1)
    if not writer.has_text:
        raise _UnreadableError("there is nothing to be seen in it")
    kind = "block" if display else "inline"
    # A formula in a line is read as if it stood alone, so that limits are limits; where they go is
    # up to the browser.
    return f'<math display="{kind}">{"".join(writer.out)}</math>'


# -- before it is read ----------------------------------------------------------------------------


def _prepared(source: str) -> str:
    if len(source) > MAX_CHARS:
        raise _UnreadableError("it is too long")
    never = _NEVER.search(source)
    if never:
        raise _UnreadableError(f"it uses {never.group()}, which is not followed here")
    if source.count("\\sideset") > 2 or source.count("\\skew") > 2:
        raise _UnreadableError("it is nested too deeply")
    source = _WITH_COUNT.sub(r"\1", source)
    source = _ENVIRONMENT.sub(_environment, source)
    source = _ROW_SPACE.sub(r"\1", source)
    source = _LEFT_OUT.sub("", source)
    source = _OPERATOR.sub(_operator, source)
    _check_depth(source)
    if "\\\\" in source and "\\begin" not in source:
        # Lines without an environment around them.
        kind = "align*" if "&" in source else "matrix"
        source = f"\\begin{{{kind}}}{source}\\end{{{kind}}}"
    return source


def _environment(found: re.Match[str]) -> str:
    name = ENVIRONMENTS.get(found[2])
    if name is None:
        raise _UnreadableError(f"{found[2][:40]} is not known here")
    return f"\\{found[1]}{{{name}}}" if name else " "


def _operator(found: re.Match[str]) -> str:
    return f"{found[1]}{re.sub(r'[^A-Za-z]', '', found[2])}}}"


def _check_depth(source: str) -> None:
    depth = 0
    for found in re.finditer(r"\\\\|\\[{}]|\\(?:left|begin)\b|\\(?:right|end)\b|[{}]", source):
        mark = found.group()
        if mark in ("{", "\\left", "\\begin"):
            depth += 1
            if depth > _MAX_OPEN:
                raise _UnreadableError("it is nested too deeply")
        elif mark in ("}", "\\right", "\\end"):
            depth -= 1


# -- writing --------------------------------------------------------------------------------------


class _Writer:
    """Writes what was read as MathML that browsers draw, and nothing else."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.has_text = False
        self._count = 0

    def write(self, element: Element, depth: int, *classes: str) -> None:
        """Write an element with classes; "limits" is none, it says that this one has limits."""
        self._count += 1
        if depth > MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise _UnreadableError("it is nested too deeply or too long")
        tag = element.tag
        attributes = dict(element.attrib)
        variant = attributes.get("mathvariant", "")
        text = self._text(element.text or "")
        if tag == "menclose":
            tag = "mrow"
            name = _STRIKES.get(attributes.get("notation", ""))
            if name is None:
                raise _UnreadableError("it has a frame that is not known here")
            classes = (*classes, name)
        if tag in ("mi", "mn", "mo", "mtext") and len(element):
            tag, attributes = "mrow", {}  # a sign made of a formula
        if len(element) != _PARTS.get(tag, len(element)):
            raise _UnreadableError("it is not complete")
        if tag not in _TAGS:
            raise _UnreadableError("it uses something that is not known here")
        if tag == "mspace" and "mathbackground" in attributes:
            raise _UnreadableError("it draws lines of its own")
        if tag == "mtext" and variant:
            classes = (*classes, _TEXT_FONTS.get(variant, ""))
        elif variant and variant != "normal":
            text = styled(text, variant)
        if tag in _SCRIPTS and len(element) and _has_limits(element[0]):
            tag = _SCRIPTS[tag]
        if tag == "mi" and "limits" in classes and text in _WITH_LIMITS:
            tag = "mo"
        if tag == "mi":
            tag, more = _kind_of(text)
            attributes |= more
            if variant == "normal" and tag == "mi":
                self.out.append(f'<mi mathvariant="normal">{escape(text)}</mi>')
                return
        elif tag == "mo" and _is_name(text) and text != "mod":
            if "limits" in classes:  # beside the name in a line, below it on a line of its own
                attributes = {"movablelimits": "true", "lspace": "0em", "rspace": "0em"}
            else:
                tag, attributes = "mi", {}
        self.out.append(f"<{tag}{_attributes(tag, attributes, classes)}>")
        self.out.append(escape(text))
        self._write_children(element, tag, depth)
        self.out.append(f"</{tag}>")

    def _write_children(self, element: Element, tag: str, depth: int) -> None:
        children = list(element)
        lines = element.get("columnlines", "").split()
        if tag == "mtable":
            rows = element.get("rowlines", "").split()
            for number, row in enumerate(children):
                self._write_row(row, lines, depth + 1, has_line=_is_line(rows, number))
            return
        spaced = tag in ("mrow", "mstyle", "mtd", "msqrt", "mphantom", "mpadded")
        for number, child in enumerate(children):
            before = children[number - 1] if number else None
            after = children[number + 1] if number + 1 < len(children) else None
            is_name = spaced and _is_function(child)
            if is_name and before is not None and not _is_function(before):
                self._space(before)
            limits = "limits" if tag in _LIMITS and number == 0 else ""
            self.write(child, depth + 1, limits)
            if is_name and after is not None:
                self._space(after)

    def _write_row(self, row: Element, lines: list[str], depth: int, *, has_line: bool) -> None:
        self.out.append("<mtr>")
        for number, cell in enumerate(row):
            aligned = cell.get("columnalign", "")
            names = [f"gw-col-{aligned}"] if aligned in ("left", "right") else []
            if _is_line(lines, number):
                names.append("gw-line-after")
            if has_line:
                names.append("gw-line-below")
            self.write(cell, depth + 1, *names)
        self.out.append("</mtr>")

    def _space(self, beside: Element) -> None:
        """Put the small space between the name of a function and what is beside it."""
        is_sign = _kind_of(self._text(beside.text or ""))[0] == "mo"
        if beside.tag not in ("mo", "mspace") and not is_sign:
            self.out.append('<mspace width="0.1667em"></mspace>')

    def _text(self, text: str) -> str:
        if text.startswith("\\") and text[1:2].isalpha():
            raise _UnreadableError(f"{text[:40]} is not known here")
        if text in ("&", "{", "}", "#", "\\"):
            raise _UnreadableError(f"there is a {text} where none can be")
        text = DIRECTION_MARKS.sub("\ufffd", printable(_REFERENCE.sub(_letter, text)))
        self.has_text = self.has_text or bool(text)
        return text


def _letter(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    if code < 0x20 or code > 0x10FFFF:
        raise _UnreadableError("it names a letter that there is not")
    return chr(code)


def _kind_of(text: str) -> tuple[str, dict[str, str]]:
    """Tell whether what was read as a letter is one: the reader takes the sign +- for one."""
    if len(text) == 1:
        category = unicodedata.category(text)
        if category in ("Ps", "Pe"):
            return "mo", {"stretchy": "false"}
        if category == "Sm" or text == ":":
            return "mo", {}
    return "mi", {}


def _is_name(text: str) -> bool:
    return len(text) > 1 and text.replace("\u2009", "").replace("\u2006", "").isalpha()


def _is_function(element: Element) -> bool:
    while element.tag in _BASED and len(element):
        element = element[0]
    text = _REFERENCE.sub(lambda found: chr(int(found[1], 16) % 0x110000), element.text or "")
    return element.tag in ("mi", "mo") and _is_name(text) and text != "mod"


def _has_limits(element: Element) -> bool:
    return element.get("movablelimits") == "true" or (element.text or "") in _WITH_LIMITS


def _is_line(lines: list[str], number: int) -> bool:
    return number < len(lines) and lines[number] in ("solid", "dashed")


def _attributes(tag: str, attributes: dict[str, str], classes: tuple[str, ...]) -> str:
    names = [name for name in classes if name and name != "limits"]
    kept = [f'class="{" ".join(names)}"'] if names else []
    if tag == "mpadded" and any(value.startswith("+") for value in attributes.values()):
        attributes = {}  # browsers take what is to be added for the whole
    for name, value in attributes.items():
        if name in _ON_OFF and value in ("true", "false"):
            kept.append(f'{name}="{value}"')
        elif name in _LENGTHS:
            kept.append(f'{name}="{_length(name, value)}"')
        elif name in _WORDS and _WORDS[name].fullmatch(value):
            kept.append(f'{name}="{value}"')
        elif name not in _DROPPED and name not in _ON_OFF and name not in _WORDS:
            raise _UnreadableError(f"it sets something that is not known here ({tag} {name[:20]})")
    return "".join(f" {one}" for one in kept)


def _length(name: str, value: str) -> str:
    """Return a length that covers nothing else: a formula must not lie over other text."""
    found = _LENGTH.fullmatch(value.strip())
    if found is None or not any(letter.isdigit() for letter in found[2]):
        if value in ("thin", "medium", "thick"):
            return {"thin": "0.03em", "medium": "0.06em", "thick": "0.12em"}[value]
        raise _UnreadableError("it has a length that is not understood")
    sign, number, unit = found.groups()
    size = float(number) * _EM.get(unit or "em", 1)
    lowest, highest = (-1, 20) if name in ("width", "lspace", "rspace") else (-3, 3)
    if not lowest <= (-size if sign == "-" else size) <= highest:
        raise _UnreadableError("it has a length that is too great")
    return f"{sign}{size:.4g}em"
