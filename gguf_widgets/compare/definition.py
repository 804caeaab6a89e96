"""What a comparison is asked to do, and what is known of how it went, as plain values.

Promises: what `to_dict` returns is plain JSON and enough to carry the comparison out again, or go
on with it, in another process. Leaves to others: the prompts (`prompts`), keeping it (`records`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Literal

from gguf_widgets.compare.scoring import Scoring
from gguf_widgets.compare.scorings import scoring_of
from gguf_widgets.compare.sides import Common, SideRecord
from gguf_widgets.core.errors import InvalidValueError

__all__ = ["ORDERS", "Definition"]

_VERSION: Final = 1
Order = Literal["auto", "together", "one by one"]
ORDERS: Final = ("auto", "together", "one by one")


@dataclasses.dataclass
class Definition:
    """A comparison's task and what is known of it.

    Attributes
    ----------
    sides : list of SideRecord
    common : Common
    scorings : list of Scoring
    columns : list of dict
        The table's.
    has_references : bool
    stop_early : str or None
        The scoring that decides.
    order : {"auto", "together", "one by one"}
    stopped_early : dict or None
        ``num_prompts``, ``best``, ``words``: it was clear before all were asked.
    notes : list of str
        What a person should know: full sentences.
    judge_runs : dict of str to list of str
        By the judge's name: the batch runs of what it was asked; the last may not have ended.
    score_errors : dict of str to str
        By the scoring's name: why it could not be carried out, in words.
    """

    sides: list[SideRecord]
    common: Common
    scorings: list[Scoring]
    columns: list[dict[str, Any]]
    has_references: bool
    stop_early: str | None = None
    order: Order = "auto"
    stopped_early: dict[str, Any] | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    judge_runs: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    score_errors: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def shuffled(self) -> bool:
        """Whether prompts are asked in an order that was drawn."""
        return self.stop_early is not None

    def scoring(self, name: str) -> Scoring:
        """Return the scoring of a name.

        Raises
        ------
        InvalidValueError
            There is none.
        """
        for one in self.scorings:
            if one.name == name:
                return one
        names = ", ".join(f'"{one.name}"' for one in self.scorings)
        raise InvalidValueError(
            f"This comparison has no score called {name!r:.60}; it has {names}.",
            name=str(name)[:60],
        )

    def note(self, text: str) -> None:
        """Add a sentence, once."""
        if text not in self.notes:
            self.notes.append(text)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "version": _VERSION,
            "sides": [side.to_dict() for side in self.sides],
            "common": dataclasses.asdict(self.common),
            "scorings": [one.to_dict() for one in self.scorings],
            "columns": self.columns,
            "has_references": self.has_references,
            "stop_early": self.stop_early,
            "order": self.order,
            "stopped_early": self.stopped_early,
            "notes": list(self.notes),
            "judge_runs": {name: list(runs) for name, runs in self.judge_runs.items()},
            "score_errors": dict(self.score_errors),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Definition:
        """Read what `to_dict` made.

        Raises
        ------
        InvalidValueError
            It is not that, or from a newer version of this program.
        """
        if data.get("version") != _VERSION:
            raise InvalidValueError(
                "This comparison was made by another version of gguf-widgets "
                f"({data.get('version')!r}; this one knows {_VERSION}). Update gguf-widgets."
            )
        try:
            return cls(
                sides=[SideRecord.from_dict(one) for one in data["sides"]],
                common=Common(**data["common"]),
                scorings=[scoring_of(one) for one in data["scorings"]],
                columns=list(data["columns"]),
                has_references=bool(data["has_references"]),
                stop_early=data["stop_early"],
                order=data["order"],
                stopped_early=data["stopped_early"],
                notes=list(data["notes"]),
                judge_runs={name: list(runs) for name, runs in data["judge_runs"].items()},
                score_errors=dict(data["score_errors"]),
            )
        except (KeyError, TypeError) as error:
            raise InvalidValueError(
                f"The description of this comparison cannot be read: {error!r}."
            ) from error
