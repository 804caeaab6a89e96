"""The chat formats of well-known model families, as templates that these tests wrote themselves.

Promises: each is written from the format its makers published (named in `Family.published`: a page
or a paper that describes the format; no file is copied), with the features of Jinja that templates
of this family use: namespaces, macros, loop controls, slices, `raise_exception`, `strftime_now`,
`tojson` with its options, generation blocks. `Family.example` is what the published format says of
one short conversation, written out by hand, so that a template that is wrong is noticed.

Leaves to others: what is done with them (`tests/core/engine/test_chat_template_families.py`).
"""

from __future__ import annotations

from support import (
    chat_template_families_1,
    chat_template_families_2,
    chat_template_families_3,
    chat_template_families_4,
)
from support.chat_template_family import Family

__all__ = ["FAMILIES", "Family"]

_MODULES = (
    chat_template_families_1,
    chat_template_families_2,
    chat_template_families_3,
    chat_template_families_4,
)

FAMILIES: tuple[Family, ...] = tuple(
    value for module in _MODULES for value in vars(module).values() if isinstance(value, Family)
)
