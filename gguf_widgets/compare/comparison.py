"""`Comparison`: sides, prompts, answers, scores and votes, as a person holds them.

Promises: the same object before, while and after it is carried out, and for one of long ago; what
is shown is what the store holds, whichever process carries it out; nothing that was answered,
scored or voted is lost. Leaves to others: making one (`making`), carrying it out (`carrying`),
what is known of it (`kept`), results (`result_methods`), files (`export`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from gguf_widgets.batch.steering import Onlooker
from gguf_widgets.batch.waiting import wait_until_not
from gguf_widgets.compare import events
from gguf_widgets.compare.carrying import Carrier
from gguf_widgets.compare.export import as_dict, export
from gguf_widgets.compare.records import Records
from gguf_widgets.compare.result_methods import ResultMethods
from gguf_widgets.compare.scoring import Scoring
from gguf_widgets.compare.scorings import check_references, parse_scorings
from gguf_widgets.compare.showing import comparison_html, comparison_text
from gguf_widgets.compare.types import (
    ComparisonStatus,
    Progress,
    SideState,
    SideStatus,
)
from gguf_widgets.core.errors import BatchError, InvalidValueError, from_wire
from gguf_widgets.core.figures import make_figure
from gguf_widgets.core.manager import ModelManager, default_manager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.store import Store, default_store

__all__ = ["Comparison"]

_log = logging.getLogger(__name__)

_STOP_S: Final = 30.0
_SLICE_S: Final = 0.2
_ENOUGH: Final = 3  # answers that must have ended before a time left is told


class Comparison(ResultMethods):
    """A comparison; made by `gguf_widgets.compare` or `resume_comparison`.

    Sides are named by their number (from 0) or their label, scores by their name.

    Parameters
    ----------
    comparison_id : str
    store : Store
    manager : ModelManager
    models : mapping of int to Model
        Models of sides that are loaded already.
    functions : sequence of Scoring
        Scorings of a person's own, which no store can hold.

    Attributes
    ----------
    id : str
        For `resume_comparison`, in another session or on another page.

    Examples
    --------
    >>> comparison = gw.compare(["a.gguf", "b.gguf"], prompts)  # doctest: +SKIP
    >>> comparison.summary()  # doctest: +SKIP
    >>> print(comparison.difference(0, 1, "exact"))  # doctest: +SKIP
    """

    def __init__(
        self,
        comparison_id: str,
        store: Store,
        manager: ModelManager,
        models: Mapping[int, Model] | None = None,
        functions: Sequence[Scoring] = (),
    ) -> None:
        self._carrier: Carrier | None = None
        self._lock = threading.RLock()  # whoever hears that it begins may ask it something
        self._observers: list[Callable[[Comparison], None]] = []
        super().__init__(comparison_id, store, manager, models, functions)
        self._onlooker = Onlooker(lambda: self._is_elsewhere, self._tell)

    @classmethod
    def open(
        cls, comparison_id: str, *, store: Store | None = None, manager: ModelManager | None = None
    ) -> Self:
        """Return a comparison of before without going on with it.

        Parameters
        ----------
        comparison_id : str
            Its id, or the beginning of it.

        Raises
        ------
        InvalidValueError
            There is none, or there are several.
        """
        own = store if store is not None else default_store()
        found = Records(own).find(comparison_id)
        return cls(found.id, own, manager if manager is not None else default_manager())

    # -- how it stands ----------------------------------------------------------------------------

    @property
    def is_here(self) -> bool:
        """Whether it is this object that carries it out just now."""
        carrier = self._carrier
        return carrier is not None and not carrier.ended.is_set()

    @property
    def status(self) -> ComparisonStatus:
        """Where it stands, also if another process is at it."""
        if self.is_here:
            return ComparisonStatus.RUNNING
        return self._records.get(self.id).status

    @property
    def error(self) -> str | None:
        """Why the comparison as a whole could not go on; None if it could."""
        error = self._records.get(self.id).error
        return None if error is None else error["message"]

    @property
    def notes(self) -> list[str]:
        """What a person should know of how it went: full sentences."""
        definition = self.definition
        told = [
            f"“{side.label}” cannot answer, and the others go on without it: {side.error}"
            for side in definition.sides
            if side.error is not None
        ]
        if definition.stopped_early is not None:
            told.append(definition.stopped_early["words"])
        told += definition.notes
        told += [
            f"The score “{name}” could not be made: {reason}"
            for name, reason in definition.score_errors.items()
        ]
        return told

    @property
    def sides(self) -> list[SideState]:
        """The sides as they are now."""
        return self.progress.sides

    @property
    def progress(self) -> Progress:
        """How far it is, side by side."""
        carrier = self._carrier if self.is_here else None
        _, definition, answers = self._now()
        status = self.status
        states = []
        num_done = num_total = 0
        for number, side in enumerate(definition.sides):
            counts = answers.counts(number)
            own = SideStatus.WAITING
            if carrier is not None:
                own = carrier.statuses.get(number, SideStatus.WAITING)
            elif side.error is not None:
                own = SideStatus.FAILED
            elif counts is not None:
                own = SideStatus.STOPPED if counts.waiting else SideStatus.DONE
            state = msgspec.structs.replace(side.state(number, own), counts=counts)
            if carrier is not None:
                busy, speed = carrier.live(number)
                state = msgspec.structs.replace(
                    state, busy_s=state.busy_s + busy, tok_per_s=speed or state.tok_per_s
                )
            states.append(state)
            if own is not SideStatus.FAILED:
                num_total += self.num_prompts
                num_done += counts.ended if counts is not None else 0
        note = carrier.note if carrier is not None else ""
        if carrier is None and status is ComparisonStatus.RUNNING:
            note = "Another notebook or page carries this comparison out."
        return Progress(
            status=status,
            phase=carrier.phase if carrier is not None else "",
            num_done=num_done,
            num_total=num_total,
            left_s=_left(states, self.num_prompts) if carrier is not None else None,
            elapsed_s=carrier.elapsed_s if carrier is not None else 0.0,
            note=note,
            sides=states,
        )

    def observe(self, callback: Callable[[Comparison], None]) -> Callable[[], None]:
        """Have `callback` called with this comparison as it goes on, at most ten times a second.

        It is called in the comparison's thread and must return at once; the last time after the
        end. While another process carries it out, it is called twice a second.

        Returns
        -------
        callable
            Ends it.
        """
        self._observers.append(callback)
        if self._is_elsewhere:
            self._onlooker.start()

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._observers.remove(callback)

        return end

    # -- carrying it out --------------------------------------------------------------------------

    def start(self) -> Self:
        """Begin, or go on with what is missing, in the background; return at once.

        Sides that failed are tried again; prompts that failed are not (``run(side).retry_failed()``
        does that).

        Raises
        ------
        BatchError
            Another process is at it.
        StoreError
            The store cannot be written to.
        """
        with self._lock:
            if self.is_here:
                return self
            record, definition, answers = self._now()
            carrier = Carrier(
                self._records,
                record,
                definition,
                answers,
                self._manager,
                self._models,
                on_change=self._changed,
            )
            before, self._carrier = self._carrier, carrier  # it may end before this returns
            self._known = (record, definition, answers)
            try:
                carrier.start(lambda: events.tell("started", self))
            except BaseException:
                self._carrier = before
                raise
        return self

    resume = start

    def stop(self, timeout_s: float = _STOP_S) -> None:
        """End it; what is done stays, and `start` goes on.

        It returns when it has ended, or after `timeout_s` seconds.
        """
        carrier = self._carrier
        if carrier is not None and not carrier.ended.is_set():
            carrier.stop()
            carrier.ended.wait(timeout_s)
        elif self._is_elsewhere:
            self._records.ask_to_stop(self.id)
            wait_until_not(lambda: self._is_elsewhere, timeout_s)

    def wait(self, timeout_s: float | None = None) -> Self:
        """Wait until it has ended.

        An interrupt (Ctrl+C, or Stop in a notebook) stops one that is carried out here; what is
        done stays.

        Raises
        ------
        GgufWidgetsError
            It could not go on; what is done is kept.
        TimeoutError
            It has not ended; it goes on.
        """
        carrier = self._carrier
        if carrier is None or (carrier.ended.is_set() and self._is_elsewhere):
            if not wait_until_not(lambda: self._is_elsewhere, timeout_s):
                raise TimeoutError(f"The comparison has not ended in {timeout_s:g} s; it goes on.")
            record = self._records.get(self.id)
            if record.status is ComparisonStatus.FAILED and record.error is not None:
                raise from_wire(record.error)
            return self
        left = timeout_s
        try:
            while not carrier.ended.wait(_SLICE_S if left is None else min(_SLICE_S, left)):
                if left is not None:
                    left -= _SLICE_S
                    if left <= 0:
                        raise TimeoutError(
                            f"The comparison has not ended in {timeout_s:g} s; it goes on."
                        )
        except KeyboardInterrupt:
            self.stop()
            raise
        if carrier.error is not None:
            raise carrier.error
        return self

    def add_scores(self, scores: Any, *, references: Any = None, wait: bool = True) -> Self:
        """Score the answers that there are in more ways.

        Parameters
        ----------
        scores
            As for `compare`.
        references : list, optional
            What is right, one for each prompt; in place of those that there are.
        wait : bool, default True
            Wait for the end; else it is carried out in the background.

        Raises
        ------
        InvalidValueError
            A score is not known, is there already, or needs references.
        BatchError
            The comparison is being carried out.
        """
        if self.status is ComparisonStatus.RUNNING:
            raise BatchError(
                "The comparison is being carried out. Wait for its end, or stop it first.",
                id=self.id,
            )
        record, definition, _ = self._now()
        listed = None if references is None else list(references)
        if listed is not None and len(listed) != record.num_prompts:
            raise InvalidValueError(
                f"There are {record.num_prompts:,} prompts and {len(listed):,} references. Give "
                "one for each prompt, None where nothing is known to be right."
            )
        has = definition.has_references or listed is not None
        new = parse_scorings(scores, has_references=has)
        taken = [one.name for one in new if one.name in self.score_names]
        if taken:
            raise InvalidValueError(
                f'This comparison has a score called "{taken[0]}" already. Give the new one '
                'another name: name="...".',
                name=taken[0],
            )
        kept = listed or [one for _, one in self._records.prompts(record, 0, record.num_prompts)]
        known = [*definition.scorings, *new]
        check_references(known if listed is not None else new, kept)
        if listed is not None:
            self._records.put_references(record, listed)
            definition.has_references = True
            old = [one.name for one in definition.scorings if one.needs_reference]
            self._records.forget_scores(self.id, old)
        definition.scorings = known
        self._functions = [*self._functions, *new]
        self._records.put_data(self.id, definition.to_dict())
        self.start()
        return self.wait() if wait else self

    # -- showing and keeping ----------------------------------------------------------------------

    def figure(self, kind: str = "quality", **options: Any) -> Any:
        """Return a Plotly figure.

        Parameters
        ----------
        kind : {"quality", "differences", "votes"}, default "quality"
            Quality against speed against memory; differences with their intervals; votes.
        **options
            ``score``: which score is the quality, or whose differences; default: the first, all.

        Raises
        ------
        InvalidValueError
            There is no such kind.
        MissingDependencyError
            Plotly is not installed.
        """
        import gguf_widgets  # whose public name brings what draws, however this class was found

        _ = gguf_widgets.Comparison
        return make_figure(f"comparison.{kind}", self, **options)

    def to_dict(self, *, with_rows: bool = True) -> dict[str, Any]:
        """Return all there is to it as JSON's own types."""
        return as_dict(self, with_rows=with_rows)

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write it to a file: ``.json`` (all), ``.csv`` (a row a prompt), ``.ipynb`` (repeats it).

        Raises
        ------
        InvalidValueError
            The ending is another one.
        TableFileError
            It cannot be written; what was there before is untouched.
        """
        return export(self, path)

    def close(self) -> None:
        """Stop it if it is carried out here, and forget the observers."""
        self.stop()
        self._observers.clear()

    def __repr__(self) -> str:
        return f"<Comparison {self.id[:8]}: {' / '.join(self.labels)}, {self.status.value}>"

    def __str__(self) -> str:
        return comparison_text(self)

    def _repr_html_(self) -> str:
        return comparison_html(self)

    # -- inside -----------------------------------------------------------------------------------

    @property
    def _is_elsewhere(self) -> bool:
        if self.is_here:
            return False
        return self._records.get(self.id).status is ComparisonStatus.RUNNING

    def _changed(self) -> None:
        carrier = self._carrier
        if carrier is not None and carrier.ended.is_set():
            events.tell("ended", self)
        self._tell()

    def _tell(self) -> bool:
        for observer in list(self._observers):
            try:
                observer(self)
            except Exception:  # noqa: BLE001 - it must cost the comparison nothing
                _log.exception("Somebody who watches a comparison failed")
        return bool(self._observers)


def _left(states: Sequence[SideState], num_prompts: int) -> tuple[float, float] | None:
    """Return how long the answers still take, about."""
    paces = {}
    for state in states:
        ended = state.counts.ended if state.counts is not None else 0
        if ended >= _ENOUGH and state.busy_s > 0:
            paces[state.number] = state.busy_s / ended
    if not paces or not any(state.counts is None or state.counts.waiting for state in states):
        return None
    usual = max(paces.values())  # of a side that has not begun; the slowest is the careful guess
    left = sum(
        paces.get(state.number, usual)
        * (state.counts.waiting if state.counts is not None else num_prompts)
        for state in states
        if state.status is not SideStatus.FAILED
    )
    return 0.8 * left, 1.3 * left
