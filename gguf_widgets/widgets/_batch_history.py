"""The forms that a person had before another one was put in their place.

Promises: whatever takes the place of a form (a template from a chat, an earlier run's) leaves it
where it can be brought back, with what was typed into it at the very last moment; nothing is asked
before. The last twenty are kept; any thread may ask. Leaves to others: what a form holds
(`_batch_draft`), the buttons (static/_batch_form.js).
"""

from __future__ import annotations

import threading
from typing import Final, NamedTuple

from gguf_widgets.batch.output import Output
from gguf_widgets.widgets._batch_draft import Draft

__all__ = ["Form", "History"]

_MOST: Final = 20


class Form(NamedTuple):
    """A form, and what its answer is if the form has no way to say it."""

    draft: Draft
    kept: Output | None = None


class History:
    """The form that is shown, and those before and after it.

    Attributes
    ----------
    fills : int
        How often another form was put in; a page says with what it sends which one it had.
    words : str
        Why another form is here than before; "" if there is nothing to say.
    """

    def __init__(self) -> None:
        self._forms = [Form(Draft())]
        self._at = 0
        self._displaced: Form | None = None
        self._lock = threading.Lock()
        self.fills = 0
        self.words = ""

    @property
    def form(self) -> Form:
        """What is shown."""
        return self._forms[self._at]

    @property
    def has_before(self) -> bool:
        """Whether there is one to go back to."""
        return self._at > 0

    @property
    def has_after(self) -> bool:
        """Whether there is one to go forward to."""
        return self._at + 1 < len(self._forms)

    def change(self, draft: Draft) -> None:
        """Take what was typed into the form that is shown."""
        with self._lock:
            self._forms[self._at] = Form(draft, self.form.kept)

    def put(self, form: Form, words: str = "") -> None:
        """Show another form; the one that was shown is kept unless it was still empty."""
        with self._lock:
            self._displaced = self.form
            self.fills += 1
            self.words = words
            if self.form.draft == Draft():
                self._forms[self._at] = form
            else:
                self._at += 1
                self._forms.insert(self._at, form)
                self._drop_oldest()

    def late(self, draft: Draft) -> None:
        """Take what a page had typed before it heard of the form that is shown now."""
        with self._lock:
            before = self._at - 1
            if before >= 0 and self._forms[before] is self._displaced:
                self._displaced = self._forms[before] = Form(draft, self._forms[before].kept)
            elif draft not in [form.draft for form in self._forms]:
                self._forms.insert(self._at, Form(draft))
                self._at += 1
                self._drop_oldest()

    def back(self, words: str = "") -> bool:
        """Show the one before; return whether there was one."""
        return self._go(-1, words)

    def forward(self, words: str = "") -> bool:
        """Show the one after; return whether there was one."""
        return self._go(1, words)

    def _go(self, step: int, words: str) -> bool:
        with self._lock:
            if not 0 <= self._at + step < len(self._forms):
                return False
            self._displaced = None
            self._at += step
            self.fills += 1
            self.words = words
            return True

    def _drop_oldest(self) -> None:
        while len(self._forms) > _MOST:
            # Where the oldest is the one that is shown, the youngest.
            self._forms.pop(0 if self._at else -1)
            self._at = max(0, self._at - 1)
