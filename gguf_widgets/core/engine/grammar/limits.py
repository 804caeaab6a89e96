"""How large a schema, a pattern or a grammar may be.

Each number bounds the work that one request can cause, in the worker and in llama.cpp; what is
beyond is refused with the number. They are far above what people write by hand.
"""

from __future__ import annotations

__all__ = [
    "LLAMA_REPETITIONS",
    "MAX_ALTERNATIVES",
    "MAX_BRANCHES",
    "MAX_DEPTH",
    "MAX_ELEMENTS",
    "MAX_ENUM",
    "MAX_EXPRESSION",
    "MAX_GRAMMAR_BYTES",
    "MAX_LEFTMOST",
    "MAX_LEFTMOST_DEPTH",
    "MAX_NESTING",
    "MAX_PATTERN",
    "MAX_PROOFS",
    "MAX_PROPERTIES",
    "MAX_READINGS",
    "MAX_REPEATS",
    "MAX_STATES",
    "MAX_TRANSITIONS",
    "MAX_VALUES",
]

# A schema

MAX_DEPTH = 64
"""How deep a schema may be nested, as JSON."""

MAX_VALUES = 50_000
"""How many JSON values a schema may hold."""

MAX_ALTERNATIVES = 500
"""How many alternatives anyOf, oneOf and allOf may multiply to at one place."""

MAX_PROPERTIES = 500
"""How many properties one object may name."""

MAX_ENUM = 10_000
"""How many values one enum may list."""

# Texts: patterns, formats, numbers

MAX_PATTERN = 2_000
"""Characters of a regular expression."""

MAX_STATES = 3_000
"""States of the automaton that a pattern, or several together, come to."""

MAX_TRANSITIONS = 60_000
"""Transitions tried while such an automaton is built."""

MAX_EXPRESSION = 300_000
"""Parts of the expressions that are made on the way to one automaton."""

MAX_PROOFS = 50_000
"""How often it is asked, for one schema, whether nothing can satisfy some parts together."""

MAX_REPEATS = 1_000_000
"""The most characters or items that a minimum can ask for; a larger maximum is taken as this."""

# A grammar, as llama.cpp holds it

LLAMA_REPETITIONS = 2_000
"""llama.cpp's own bound on `{m,n}`; it takes a larger `n` for "without end"."""

MAX_GRAMMAR_BYTES = 1_000_000
"""Bytes of a grammar's text."""

MAX_ELEMENTS = 150_000
"""Elements (characters, ranges, references) of its rules. Each sequence holds a copy of them."""

MAX_NESTING = 100
"""Brackets inside brackets."""

MAX_LEFTMOST = 10_000_000
"""Ways into the rules before the first character. llama.cpp follows each one when it loads."""

MAX_LEFTMOST_DEPTH = 2_500
"""Rules that begin with a rule that begins with a rule, and so on; llama.cpp recurses."""

MAX_READINGS = 1_000
"""Readings of a text that are open at the same time, if they were not so many from the beginning;
llama.cpp follows each for each token."""

MAX_BRANCHES = 100_000
"""The same inside one token, where llama.cpp does not join readings that became equal."""
