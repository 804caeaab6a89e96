"""Importing Jupyter's server without the second or more that one unused check costs.

Promises: inside `without_iri_grammar`, importing ``jsonschema`` leaves out its check of
internationalised addresses ("iri" formats), for which it would compile a large grammar at every
start; everything else is imported as always. Leaves to others: what is imported.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

__all__ = ["without_iri_grammar"]

_MODULE = "rfc3987_syntax"


@contextlib.contextmanager
def without_iri_grammar() -> Iterator[None]:
    """Make the optional grammar look absent, which ``jsonschema`` provides for, for a while.

    Measured on two busy cores: 3.6 of the 5.2 s that importing Voila took.
    """
    if _MODULE in sys.modules:
        yield
        return
    sys.modules[_MODULE] = None  # type: ignore[assignment]  # how Python marks "cannot be imported"
    try:
        yield
    finally:
        if sys.modules.get(_MODULE, _MODULE) is None:
            del sys.modules[_MODULE]
