"""Code in a model's text, with colours.

Promises: the text of the code is never changed, whatever happens, but for characters that turn the
direction of text, which are named instead; a language that is not known, code beyond the limits
below, and code whose colouring takes too long come without colours. Leaves to others: sanitising
(`_md_clean`), the colours themselves (CSS classes ``hl-...``).
"""

from __future__ import annotations

import functools
import io
import re
import time
from collections.abc import Iterator
from html import escape

from pygments.formatters.html import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import _TokenType

from gguf_widgets.widgets._md_clean import CODE_CLASS, clean, code_text, mark_directions

__all__ = ["CodeBlock", "code_html", "code_parts", "join_code", "language_of", "part_end"]

# What comes after is shown plain: colouring costs about a millisecond a kilobyte, and a few lexers
# much more on code made to be slow.
MAX_CHARS = 32_000
MAX_LINE_CHARS = 1_000
_MAX_SECONDS = 0.25
# A long text comes in parts of so much.
PART_LINES = 40
PART_CHARS = 6_000

_LANGUAGE = re.compile(r"[A-Za-z0-9+#._-]{1,30}")

# The languages people meet in chats, by the names they are given there. A fixed list: Pygments
# knows 500, some of them slow on hostile text, and asks installed plug-ins for names it lacks.
_LEXERS = {
    alias: lexer
    for lexer, aliases in {
        "bash": "bash sh shell zsh console",
        "c": "c h",
        "cmake": "cmake",
        "cpp": "cpp c++ cc cxx hpp",
        "csharp": "csharp c# cs",
        "css": "css",
        "cuda": "cuda cu",
        "dart": "dart",
        "diff": "diff patch udiff",
        "docker": "docker dockerfile",
        "go": "go golang",
        "haskell": "haskell hs",
        "html": "html htm",
        "ini": "ini cfg conf dosini",
        "java": "java",
        "javascript": "javascript js jsx mjs node",
        "json": "json jsonc json5 jsonl",
        "julia": "julia jl",
        "kotlin": "kotlin kt",
        "lua": "lua",
        "make": "make makefile mf",
        "matlab": "matlab",
        "perl": "perl pl",
        "php": "php",
        "powershell": "powershell ps1 posh pwsh",
        "pycon": "pycon",
        "python": "python py python3 py3 ipython sage",
        "pytb": "pytb traceback py3tb",
        "r": "r rscript splus",
        "ruby": "ruby rb",
        "rust": "rust rs",
        "scala": "scala",
        "scss": "scss sass",
        "sql": "sql mysql postgres postgresql sqlite",
        "swift": "swift",
        "toml": "toml",
        "typescript": "typescript ts tsx",
        "xml": "xml svg xsl",
        "yaml": "yaml yml",
    }.items()
    for alias in aliases.split()
}


def language_of(info: str) -> str:
    """Return the language that a code block's first line names, or "".

    Only letters, digits and ``+#._-`` are let through, at most 30 of them.
    """
    words = info.split(maxsplit=1)
    found = _LANGUAGE.match(words[0].strip("{}.")) if words else None
    return found.group().lower() if found else ""


def code_html(code: str, language: str) -> str:
    """Return a whole code block: ``div.gw-code[data-lang] > pre > code``."""
    return join_code(code_parts(code, language))


def code_parts(code: str, language: str) -> list[str]:
    """Return a whole code block in parts, as `CodeBlock` gives it in the end."""
    block = CodeBlock(language)
    block.add(code)
    return block.html(final=True)


def join_code(parts: list[str]) -> str:
    """Return the parts of a code block as one."""
    rest = [part.removeprefix(_MORE) for part in parts[1:]]
    return "".join([*(part.removesuffix(_END) for part in [parts[0], *rest]), _END])


class CodeBlock:
    """A code block that grows, as HTML in parts, at a cost in proportion to what is new.

    The parts are one block on the page (see `markdown`): of a long one, only the last changes while
    it grows. The colours of the newest lines may lag behind: all is coloured anew only when it has
    grown by a twelfth, so that all this together costs about thirteen times one colouring.

    Parameters
    ----------
    language : str
        As `language_of` gives it.

    Attributes
    ----------
    language : str
    num_chars : int
        How much code there is.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts: list[str] = []  # of the parts that are full
        self._full: list[str] = []  # their HTML
        self._firsts: list[int] = []  # the numbers of their first lines
        self._open = ""  # the text of the last part
        self._num_lines = 0  # before that
        self.num_chars = 0
        self._num_coloured = 0
        self._colours: list[str] = []  # the HTML of the lines that have colours
        self._last_line: str | None = None  # the HTML of the last one, where it has no line end

    def add(self, code: str) -> None:
        """Add code at the end."""
        self.num_chars += len(code)
        self._open += code
        while (cut := part_end(self._open)) is not None:
            text, self._open = self._open[:cut], self._open[cut:]
            self._firsts.append(self._num_lines)
            self._full.append(self._html_of(text, len(self._full), self._num_lines))
            self._texts.append(text)
            self._num_lines += text.count("\n")

    def text(self) -> str:
        """Return the whole code."""
        return "".join([*self._texts, self._open])

    def html(self, more: str = "", *, final: bool = False) -> list[str]:
        """Return the sanitised parts, and `more` at the end, which may be no code after all.

        With `final`, every line has its colours.
        """
        if final or self.num_chars > 1.08 * self._num_coloured + 400:
            self._colour(final=final)
        if self._full and not self._open + more:
            return list(self._full)
        last_line = self._last_line if final and not more else None
        last = self._html_of(self._open + more, len(self._full), self._num_lines, last_line)
        return [*self._full, last]

    def _colour(self, *, final: bool) -> None:
        code = self.text()
        self._num_coloured = len(code)
        # Up to the last whole line: half a line is often coloured otherwise than the whole.
        end = len(code) if final and len(code) <= MAX_CHARS else code.rfind("\n", 0, MAX_CHARS) + 1
        html = _coloured(code[:end], self.language)
        lines = clean(mark_directions(html)).split("\n") if html else []
        self._last_line = lines.pop() if lines else None
        if lines != self._colours:
            self._colours = lines
            self._full = [
                self._html_of(text, index, self._firsts[index])
                for index, text in enumerate(self._texts)
            ]

    def _html_of(self, text: str, index: int, first: int, last_line: str | None = None) -> str:
        """Return the part with this index, which begins in line `first`, as far as it is coloured.

        A part that begins inside a line has no colours: such a line is too long for them.
        """
        pieces = text.split("\n")
        coloured = self._colours[first : first + len(pieces) - 1]
        if last_line is not None and len(coloured) == len(pieces) - 1:
            coloured = [*coloured, last_line]
        rest = pieces[len(coloured) :]
        shown = [*coloured, clean(code_text("\n".join(rest)))] if rest else coloured
        inner = "\n".join(shown)
        # The frame is ours, with a language of letters, digits and a few signs. `dir` is always
        # left to right: code reads so in every language.
        if index:
            return f"{_MORE}{inner}{_END}"
        head = f'<div class="{CODE_CLASS}" data-lang="{escape(self.language)}">'
        return f'{head}<pre dir="ltr"><code>{inner}{_END}'


_MORE = f'<div class="{CODE_CLASS} gw-more"><pre dir="ltr"><code>'
_END = "</code></pre></div>"


def part_end(text: str) -> int | None:
    """Return where the first part of a long text ends, or None while it is not full.

    It depends on the beginning of the text only, so that it stays when the text grows.
    """
    at = -1
    for _ in range(PART_LINES):
        at = text.find("\n", at + 1, PART_CHARS)
        if at < 0:
            break
    else:
        return at + 1
    if len(text) < PART_CHARS:
        return None
    return text.rfind("\n", 0, PART_CHARS) + 1 or PART_CHARS


@functools.lru_cache(maxsize=16)  # a list that grows after its code is rendered again and again
def _coloured(code: str, language: str) -> str | None:
    """Return the code as spans with classes, or None where it must stay plain."""
    lexer = _lexer(language)
    if lexer is None or len(code) > MAX_CHARS or _longest_line(code) > MAX_LINE_CHARS:
        return None
    out = io.StringIO()
    try:
        _FORMATTER.format(_in_time(lexer.get_tokens(code)), out)
    except _TooSlowError:
        return None
    html = out.getvalue()
    # The formatter ends the last line; the code may not.
    return html if code.endswith("\n") else html.removesuffix("\n")


class _TooSlowError(Exception):
    """Colouring took longer than a page can wait for it."""


def _in_time(tokens: Iterator[tuple[_TokenType, str]]) -> Iterator[tuple[_TokenType, str]]:
    # This thread's own time: a busy machine (a model is running) must not cost the colours.
    deadline = time.thread_time() + _MAX_SECONDS
    for token in tokens:
        yield token
        if time.thread_time() > deadline:
            raise _TooSlowError


def _longest_line(code: str) -> int:
    return max(map(len, code.split("\n")))


@functools.lru_cache(maxsize=64)
def _lexer(language: str) -> Lexer | None:
    name = _LEXERS.get(language)
    # The text must come out as it went in: nothing stripped, nothing added.
    return get_lexer_by_name(name, stripnl=False, ensurenl=False) if name else None


_FORMATTER: HtmlFormatter[str] = HtmlFormatter(nowrap=True, classprefix="hl-")
