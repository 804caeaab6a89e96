"""What a reply has to follow: from a request's schema or grammar to the engine's grammar.

Promises: the same schema is turned into a grammar once, however many rows of a table ask for it;
what comes out has been checked. Leaves to others: how (`engine.grammar`), and the sampling.

Any thread may call this.
"""

from __future__ import annotations

import json
from functools import lru_cache

from gguf_widgets.core.engine import grammar
from gguf_widgets.core.types import SamplingSettings

__all__ = ["grammar_for"]

# Each may be some hundred kilobytes long.
_KEPT = 64


def grammar_for(sampling: SamplingSettings) -> str | None:
    """Return the grammar (GBNF) that a reply has to follow; None if it is free.

    Raises
    ------
    UnsupportedSchemaError
        For a schema that is none, or a part of one that cannot be followed.
    GrammarError
        For a grammar that is none, or that cannot be followed.
    """
    if sampling.schema is not None:
        # Not sorted: the order of the properties is that of the reply.
        return _from_schema(json.dumps(sampling.schema))
    return None if sampling.grammar is None else _checked(sampling.grammar)


@lru_cache(_KEPT)
def _from_schema(text: str) -> str:
    return grammar.from_schema(json.loads(text))


@lru_cache(_KEPT)
def _checked(text: str) -> str:
    grammar.check(text)
    return text
