"""What a comparison knows of itself: what is asked, and what the store has of it.

Promises: what is known is read again when somebody has changed it, whichever process that was;
sides are named by number or label, and a wrong name says which there are. Leaves to others:
carrying it out (`comparison`), results (`result_methods`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from gguf_widgets.compare.answers import Answers
from gguf_widgets.compare.definition import Definition
from gguf_widgets.compare.prompts import asked_order
from gguf_widgets.compare.records import Record, Records
from gguf_widgets.compare.results import Results
from gguf_widgets.compare.scoring import Scoring
from gguf_widgets.compare.scorings import with_functions
from gguf_widgets.compare.types import SideState
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.store import Store

__all__ = ["Kept"]


class Kept(ABC):
    """A comparison's own facts; see `Comparison`."""

    def __init__(
        self,
        comparison_id: str,
        store: Store,
        manager: ModelManager,
        models: Mapping[int, Model] | None = None,
        functions: Sequence[Scoring] = (),
    ) -> None:
        self.id = comparison_id
        self._store, self._manager = store, manager
        self._models = dict(models or {})
        self._functions = list(functions)
        self._records = Records(store)
        record = self._records.get(comparison_id)
        definition = Definition.from_dict(record.data)
        self._order = asked_order(record.id, record.num_prompts, shuffled=definition.shuffled)
        self._known = self._with(record, definition)

    @property
    @abstractmethod
    def is_here(self) -> bool:
        """Whether it is this object that carries it out just now."""

    @property
    @abstractmethod
    def sides(self) -> list[SideState]:
        """The sides as they are now."""

    @property
    def title(self) -> str:
        """What a person calls it; it can be set."""
        return self._records.get(self.id).title

    @title.setter
    def title(self, text: str) -> None:
        self._records.rename(self.id, text)

    @property
    def created_at(self) -> float:
        """When it was made: seconds since 1970, UTC."""
        return self._known[0].created_at

    @property
    def num_prompts(self) -> int:
        """How many prompts there are."""
        return self._known[0].num_prompts

    @property
    def definition(self) -> Definition:
        """What is asked, and what is known of how it went."""
        return self._now()[1]

    @property
    def labels(self) -> list[str]:
        """What the sides are called."""
        return [side.label for side in self._known[1].sides]

    @property
    def scorings(self) -> list[Scoring]:
        """How the answers are scored."""
        return list(self.definition.scorings)

    @property
    def score_names(self) -> list[str]:
        """What the scores are called."""
        return [one.name for one in self.definition.scorings]

    @property
    def has_references(self) -> bool:
        """Whether something says what is right."""
        return self.definition.has_references

    @property
    def stop_early(self) -> str | None:
        """The score that may end it early; None: every prompt is asked."""
        return self.definition.stop_early

    def changes(self) -> int:
        """Return a number that grows whenever an answer, a score or a vote changes."""
        record, _, answers = self._now()
        return record.changes + answers.changes()

    def give_functions(self, scores: Any) -> None:
        """Give functions of your own again, by the names that they had; see `resume_comparison`."""
        given = with_functions(self.definition.scorings, scores)
        self._functions = given
        self._known = self._with(*self._known[:2])

    # -- inside -----------------------------------------------------------------------------------

    def _now(self) -> tuple[Record, Definition, Answers]:
        """Return what is known; read again if somebody has changed it."""
        record = self._records.get(self.id)
        known = self._known
        if self.is_here:  # the carrier changes this very definition
            return record, known[1], known[2]
        if record.changes != known[0].changes:
            known = self._known = self._with(record, Definition.from_dict(record.data))
        return known

    def _with(self, record: Record, definition: Definition) -> tuple[Record, Definition, Answers]:
        own = {one.name: one for one in self._functions}
        definition.scorings = [own.get(one.name, one) for one in definition.scorings]
        return record, definition, Answers(self._store, definition.sides, self._order)

    def _results(self) -> Results:
        record, definition, answers = self._now()
        return Results(self._records, record, definition, answers)

    def _side(self, side: int | str) -> int:
        labels = self.labels
        if isinstance(side, str) and side in labels:
            return labels.index(side)
        if isinstance(side, int) and not isinstance(side, bool) and 0 <= side < len(labels):
            return side
        shown = ", ".join(f"{number} “{label}”" for number, label in enumerate(labels))
        raise InvalidValueError(f"There is no side {side!r:.60}; there are: {shown}.")

    def _one(self, prompt: int) -> tuple[int, int]:
        is_number = isinstance(prompt, int) and not isinstance(prompt, bool)
        if not is_number or not 0 <= prompt < self.num_prompts:
            raise InvalidValueError(
                f"There is no prompt {prompt!r:.40}; they are numbered from 0 to "
                f"{self.num_prompts - 1:,}.",
                limit=self.num_prompts - 1,
            )
        return prompt, prompt + 1
