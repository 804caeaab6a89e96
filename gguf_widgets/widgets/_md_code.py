"""Code in a model's text, with colours.

Promises: the text of the code is never changed, whatever happens; a language that is not known,
code beyond the limits below, and code whose colouring takes too long come without colours. Leaves
to others: sanitising (`_md_clean`), the colours themselves (CSS classes ``hl-...``).
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

from gguf_widgets.widgets._md_clean import CODE_CLASS, clean

__all__ = ["CodeBlock", "code_html", "language_of"]

# Longer code is shown plain: colouring costs about a millisecond a kilobyte, and a few lexers much
# more on code made to be slow.
MAX_CHARS = 16_000
MAX_LINE_CHARS = 1_000
_MAX_SECONDS = 0.25

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
    return _frame(_coloured(code, language) or escape(code, quote=False), language)


class CodeBlock:
    """A code block that is still growing, rendered again and again at a bounded cost.

    The colours of the newest lines may lag behind: the whole is coloured and sanitised anew only
    when it has grown by a quarter, so that all this together costs about five times one rendering.
    """

    def __init__(self) -> None:
        self._language = ""
        self._code = ""
        self._html = ""

    def html(self, code: str, language: str) -> str:
        """Return the sanitised block for the code so far."""
        old = self._code
        begun = bool(old) and language == self._language and code.startswith(old)
        if not begun or len(code) > 1.25 * len(old) + 400 or not self._html:
            # Up to the last whole line: half a line is often coloured otherwise than the whole.
            whole = code[: code.rfind("\n") + 1]
            self._code, self._language = whole, language
            self._html = clean(_coloured(whole, language) or escape(whole, quote=False))
        rest = clean(escape(code[len(self._code) :], quote=False))
        # The frame is ours, with a language of letters, digits and a few signs.
        return _frame(self._html + rest, language)


def _frame(inner: str, language: str) -> str:
    # `dir` is always left to right: code reads so in every language.
    return (
        f'<div class="{CODE_CLASS}" data-lang="{escape(language)}">'
        f'<pre dir="ltr"><code>{inner}</code></pre></div>'
    )


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
