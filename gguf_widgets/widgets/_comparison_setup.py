"""What is set up before a comparison begins: sides, prompt or table, scores.

Promises: it outlives its page, and, where nothing was given from code, the notebook's kernel too;
whatever is wrong is told at its place; looking for models and judging memory has a thread of its
own, so that nothing that is typed waits for it. Leaves to others: what a form means
(`_comparison_draft`), models (`_comparison_models`), the table (`_comparison_table`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, Protocol

import msgspec

from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.making import prepare
from gguf_widgets.compare.sides import MAX_SIDES, Side
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError, StoreError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.preferences import Preferences
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._batch_source import Given
from gguf_widgets.widgets._comparison_draft import Draft, Judged, SideDraft, draft_of, judge
from gguf_widgets.widgets._comparison_models import Models, given_key
from gguf_widgets.widgets._comparison_table import PromptTable

__all__ = ["DRAFT_KEY", "SetUp"]

Message = dict[str, Any]

DRAFT_KEY: Final = "comparison_draft"

_log = logging.getLogger(__name__)


class Host(Protocol):
    """What the widget offers."""

    def soon(self, do: Callable[[], None]) -> None:
        """Have this done on the widget's own thread."""
        ...

    def at_work(self, what: str, do: Callable[[], object]) -> None:
        """Have this done on the thread for long work, which is busy with `what` until then."""
        ...


class SetUp:
    """What a person has set up.

    Parameters
    ----------
    host : Host
    store, manager
    name : str
        Of its thread.
    sides : sequence of Side or None
        What was given from code.
    given : Given or None
        A table of prompts that was given from code.
    prompt : str or None
        One prompt that was given from code.
    failed : callable
        Takes an error that nobody expected.
    """

    def __init__(
        self,
        host: Host,
        store: Store,
        manager: ModelManager,
        name: str,
        sides: Sequence[Side] | None,
        given: Given | None,
        prompt: str | None,
        failed: Callable[[Exception], None],
    ) -> None:
        self._host, self._store, self._manager = host, store, manager
        self._preferences = Preferences(store)
        own = list(sides or ())
        self._models = Models(manager, own)
        self._keeps = sides is None and given is None and prompt is None
        self._embedders: list[str] = []
        self._memory = {"verdict": "unknown", "words": ""}
        self._by = ""
        self._kept: Draft | None = None
        self.has_been_seen = False
        self.table = PromptTable(host, given, self.look)
        self.draft = self._first(own, given, prompt)
        self.judged: Judged = self._judge()
        self._actor = Actor(name, self._look_at, self._keep, failed)

    def close(self) -> None:
        """End its thread; what was typed last is kept."""
        self._actor.close()
        self._keep()

    # -- the form ---------------------------------------------------------------------------------

    def _first(self, sides: Sequence[Side], given: Given | None, prompt: str | None) -> Draft:
        drafts = [_drafted(side, given_key(number)) for number, side in enumerate(sides)]
        if drafts:
            draft = Draft(sides=drafts, prompt=prompt or "")
            return draft if given is None else msgspec.structs.replace(draft, mode="many")
        kept: Draft | None = None
        if self._keeps:
            try:
                kept = draft_of(self._preferences.get(DRAFT_KEY, {}))
            except (InvalidValueError, StoreError) as error:  # a later version's, or no store
                _log.warning("What was set up before cannot be read: %s", error.message)
        draft = kept or Draft()
        self._kept = kept
        if given is not None:
            draft = msgspec.structs.replace(draft, mode="many")
        if prompt is not None:
            draft = msgspec.structs.replace(draft, mode="one", prompt=prompt)
        return draft

    def fill(self, draft: Draft) -> None:
        """Show another form."""
        self.draft, self._by = draft, ""
        self.look()

    def _take_draft(self, content: Message, _buffers: Any) -> Message:
        self.draft, self._by = draft_of(content.get("draft")), str(content.get("page", ""))[:40]
        self.judged = self._judge()
        self._actor.post("memory")
        return {}

    def _judge(self) -> Judged:
        given = self.table.given
        return judge(self.draft, self._models.choices(), given.columns if given else None)

    # -- models and memory ------------------------------------------------------------------------

    def look(self) -> None:
        """Judge the form once more."""
        self.judged = self._judge()
        self._actor.post("memory")

    def begin_to_look(self) -> None:
        """List the models, with the first page that asks: an unseen view costs nothing."""
        self.has_been_seen = True
        self.look_for_models()

    def look_for_models(self) -> None:
        """List the models anew; the list comes with the state."""
        self._actor.post("models")

    def _look_at(self, what: object) -> None:
        """Look for models, or whether memory holds them; on the set-up's thread."""
        if what == "models":
            self._models.look()
            self._embedders = self._models.embedders()
            self._host.soon(self._found_models)
        names = [side.model for side in self.draft.sides]
        self._models.judge(names)
        # All sides' models, also where a setting of one is being typed.
        sides = [self._models.choices()[name] for name in names if name in self._models.choices()]
        judged = self.judged
        memory = self._models.together(judged.sides or sides) if sides else {}

        def tell() -> None:
            self._memory = memory or {"verdict": "unknown", "words": ""}

        self._host.soon(tell)

    def _found_models(self) -> None:
        """Choose models for sides that have none: the first two, or one of them twice."""
        names = list(self._models.choices())
        draft = self.draft
        if not draft.sides and names:
            first = SideDraft(model=names[0])
            other = (
                SideDraft(model=names[1])
                if len(names) > 1
                else SideDraft(model=names[0], temperature="0.8")
            )
            self.draft = msgspec.structs.replace(draft, sides=[first, other])
            self._by = ""
        self.look()

    def use_model(self, name: str) -> None:
        """Put a model that was loaded elsewhere on the page in front, if nobody chose yet."""
        if self._kept is None and self._keeps and name in self._models.choices():
            sides = list(self.draft.sides)
            if sides and all(not _is_touched(side) for side in sides):
                sides[0] = msgspec.structs.replace(sides[0], model=name)
                self.fill(msgspec.structs.replace(self.draft, sides=sides))

    def _list(self, _content: Message, _buffers: Any) -> Message:
        self.look_for_models()
        return {}

    def _keep(self) -> None:
        """Keep what is set up for the next time."""
        draft = self.draft
        if not self._keeps or draft == self._kept or not draft.sides:
            return
        self._kept = draft
        try:
            self._preferences.set(DRAFT_KEY, msgspec.to_builtins(draft))
        except GgufWidgetsError as error:  # it is only a convenience
            _log.warning("What was set up could not be kept: %s", error.message)

    # -- the comparison ---------------------------------------------------------------------------

    def checked(self) -> Judged:
        """Return what is set up.

        Raises
        ------
        InvalidValueError
            Something is wrong or missing.
        """
        judged = self._judge()
        if judged.faults:
            raise InvalidValueError(" ".join(dict.fromkeys(judged.faults.values())))
        return judged

    def prepared(self) -> Comparison:
        """Return a comparison over the table, not begun.

        Raises
        ------
        InvalidValueError, RowError, StoreError
        """
        given, draft, judged = self.table.given, self.draft, self.checked()
        if given is None:
            raise InvalidValueError("Choose a table of prompts first.")
        return prepare(
            judged.sides,
            given.frame,
            template=judged.template,
            references=draft.reference or None,
            scores=judged.scores,
            reproducible=draft.strict,
            stop_early=draft.early,
            title=given.name if given.is_file else "",
            store=self._store,
            manager=self._manager,
            **judged.sampling,
        )

    ACTIONS: ClassVar[dict[str, Callable[[Any, Message, Any], Message | None]]] = {
        "draft": _take_draft,
        "models": _list,
    }

    def parts(self) -> Message:
        """Return what the pages show of it."""
        judged, given = self.judged, self.table.given
        return {
            "table": self.table.part(),
            "draft": {"by": self._by, "draft": msgspec.to_builtins(self.draft)},
            "judged": {
                "faults": judged.faults,
                "notes": judged.notes,
                "template": judged.template if given is not None else "",
                "columns": given.columns if given is not None else [],
            },
            "models": {
                "list": self._models.view(),
                "embedders": self._embedders,
                "hasLooked": self._models.has_looked,
                "most": MAX_SIDES,
            },
            "memory": self._memory,
        }


def _drafted(side: Side, key: str) -> SideDraft:
    """Return the form of a side that was given from code: what the form has a place for."""
    told = {
        name: str(side.sampling[name])
        for name in ("temperature", "top_p", "seed")
        if side.sampling.get(name) is not None
    }
    if "n_ctx" in side.load:
        told["n_ctx"] = str(side.load["n_ctx"])
    wording = side.template if isinstance(side.template, str) else ""
    return SideDraft(
        model=key, label=side.label or "", system=side.system or "", wording=wording, **told
    )


def _is_touched(side: SideDraft) -> bool:
    return bool(side.label or side.system or side.wording or side.seed)
