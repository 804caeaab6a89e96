"""Grammars: what a reply may be, as llama.cpp's stack machine takes it (GBNF).

`from_schema` turns a JSON schema into a grammar, and `check` says whether a grammar that somebody
wrote can be followed. Both are pure functions of plain text and data, for any thread, and load no
native code.

What a schema's grammar writes is always valid against the schema. It writes less than the schema
allows, in these ways:

Layout
    The reply begins and ends with the value. After ``{``, ``[``, ``,`` and ``:`` and before ``}``
    and ``]`` there may be nothing, one blank, or a new line with up to 40 blanks or 10 tabs.
Objects
    Properties come in the order in which the schema names them; those not required may be left out.
    Others are written only where ``additionalProperties`` or ``patternProperties`` asks for them,
    or where none are named; they come last. Where several alternatives of ``anyOf`` are alike for a
    while, each keeps its own order.
Strings
    A string without a pattern or format may use all of JSON's escapes. Others write each character
    as it is, and only what JSON cannot write so with its short escape. Where a pattern and a
    maximum come together, the maximum may be lowered. Formats are kept in their usual form
    (`formats`); unknown ones are remarks.
Numbers
    Up to 18 digits, or as many as a bound has; with a fraction, up to 15 in all. Exponents only
    where there is no bound, and up to two digits.
Types
    Where ``type`` is missing and other keywords tell which values are meant, only such values are
    written: ``{"minLength": 3}`` writes strings.
oneOf, not, if
    Alternatives must be told apart for sure: by their types, texts, numbers or a property. Where it
    helps, a property that could be left out is always written, or one that could be written is left
    out. Otherwise the schema is refused.
Different items
    ``uniqueItems`` only where all that the items can be is listed; they come in that order.

What cannot be followed at all is refused with its place, and so are unknown keywords that look like
a slip of the pen. The sizes of everything are bounded (`limits`).
"""

from __future__ import annotations

from typing import Any

from gguf_widgets.core.engine.grammar.check import check_grammar
from gguf_widgets.core.engine.grammar.compile import compiled
from gguf_widgets.core.engine.grammar.document import unsupported
from gguf_widgets.core.errors import GrammarError

__all__ = ["check", "from_schema"]


def from_schema(schema: dict[str, Any] | bool) -> str:
    """Return the grammar of a JSON schema; its root is the rule ``root``.

    Parameters
    ----------
    schema : dict or bool
        JSON Schema of draft 2020-12, as pydantic writes it, or of drafts 4 to 2019-09.

    Returns
    -------
    str
        Every text of the grammar is JSON and valid against the schema.

    Raises
    ------
    UnsupportedSchemaError
        With the JSON pointer of the part that cannot be followed, in the message and as
        ``details["pointer"]``.
    """
    text, is_ambiguous = compiled(schema)
    try:
        check_grammar(text, readings=is_ambiguous)
    except GrammarError as error:
        raise unsupported(
            "",
            "its grammar would be too much for llama.cpp. Make its alternatives differ "
            "earlier, for "
            f"example by a first property with a constant, or shorten its lists. "
            f"({error.message})",
        ) from error
    return text


def check(gbnf: str) -> None:
    """Refuse a grammar that llama.cpp would refuse, or could not follow in reasonable time.

    Raises
    ------
    GrammarError
        With the line and the column, in the message and as ``details["line"]``, ``["column"]``.
    """
    check_grammar(gbnf)
