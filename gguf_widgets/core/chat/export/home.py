"""The name of a person's home folder, taken out of what is given to others.

A conversation remembers where its model's file lies, and errors name files; both often begin with a
folder that is called like the person.

Promises: in what the program noted (models, records, errors) the home folder is "~", which is the
same place on this machine; what people, models and tools wrote stays as it is. Leaves to others:
everything else.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from gguf_widgets.core.chat.export.tree import Tree

__all__ = ["NOTE", "without_home"]

NOTE: Final = "Your home folder is written as ~ in it; other folders of this computer as they are."


def without_home(tree: Tree) -> Tree:
    """Return the tree with "~" for the home folder; the same one if it is nowhere in it."""
    home = _pattern(os.path.expanduser("~"))  # noqa: PTH111 - a home that is none stays "~"
    if home is None:
        return tree
    messages = [
        msgspec.structs.replace(
            message,
            model=_clean(message.model, home),
            record=_clean(message.record, home),
            error=_clean(message.error, home),
        )
        for message in tree.messages
    ]
    model = _clean(tree.conversation.model, home)
    if model == tree.conversation.model and messages == tree.messages:
        return tree
    return msgspec.structs.replace(
        tree,
        conversation=msgspec.structs.replace(tree.conversation, model=model),
        messages=messages,
    )


@cache
def _pattern(home: str) -> re.Pattern[str] | None:
    """Return what finds a home folder in a text; None for one that says nothing ("/")."""
    names = {home.rstrip("\\/"), os.path.realpath(home).rstrip("\\/")}
    known = [re.escape(one) for one in names if len(Path(one).parts) > 1]
    if not known:
        return None
    flags = re.IGNORECASE if os.name == "nt" else re.NOFLAG
    return re.compile(rf"(?<![\w.~-])(?:{'|'.join(known)})(?![\w.-])", flags)


def _clean(value: Any, home: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return home.sub("~", value)
    if isinstance(value, dict):
        return {name: _clean(one, home) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(one, home) for one in value]
    return value
