"""A made-up model of which every word is a token, so that a test can count by itself.

Not a test and no fixture.
"""

from __future__ import annotations

import itertools
from typing import Any

from support.chat_fakes import FakeModel

from gguf_widgets.core.types import LoadSettings

MARKS = 3
"""Tokens around each message."""

numbers = itertools.count()


class WordModel(FakeModel):
    """Every word is a token, and every message has three more."""

    def __init__(self, n_ctx: int, *script: Any) -> None:
        super().__init__(*script)
        self.settings = LoadSettings(n_ctx=n_ctx)
        self.name = f"words {next(numbers)}"  # so that no test finds another one's counts
        self.info = type(self.info)(
            **{f: getattr(self.info, f) for f in self.info.__struct_fields__} | {"path": self.name}
        )
        self.asked = 0

    def tokenize(self, text: str, **_more: Any) -> list[int]:
        self.asked += 1
        return list(range(len(text.split())))

    def count_tokens(self, what: Any) -> int:
        self.asked += 1
        if isinstance(what, str):
            return len(what.split())
        return sum(len(message["content"].split()) + MARKS for message in what) + 1
