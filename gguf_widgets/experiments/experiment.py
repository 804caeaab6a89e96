"""`Experiment`: everything asked inside a ``with`` block, recorded so that it can be repeated.

Promises: each completion, chat answer, batch run and comparison that begins inside the block is
recorded, with the exact tokens that the model read and wrote, all settings, the seed, the model's
file, the program and the machine; what was computed beside others is recorded as not strict; each
item is in the store once it has ended, and a store that cannot be written to costs nothing but
that, and is told of (`notices`). Leaves to others: hearing (`recorder`), the file (`document`),
asking again (`replay`).
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from gguf_widgets.batch.run import BatchRun
from gguf_widgets.core.errors import InvalidValueError, StoreError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.record.program import about_machine, about_program
from gguf_widgets.core.store.experiments import KeptExperiments
from gguf_widgets.core.store.store import Store, default_store
from gguf_widgets.core.types import Reply
from gguf_widgets.experiments import words as say
from gguf_widgets.experiments.document import (
    Judged,
    digest_of_record,
    judged,
    kept_form,
    read_file,
    write_file,
)
from gguf_widgets.experiments.model_record import hashed
from gguf_widgets.experiments.recorder import Recorder
from gguf_widgets.experiments.replay import Progress, Replay
from gguf_widgets.experiments.replay_models import Chosen
from gguf_widgets.experiments.values import Item, ModelRecord, Record

if TYPE_CHECKING:
    from gguf_widgets.compare.comparison import Comparison

__all__ = ["Experiment", "experiments", "load_experiment"]

_MAX_TITLE: Final = 200
_MAX_NOTES: Final = 100_000
_ID: Final = re.compile(r"[0-9a-f]{4,32}")


class Experiment:
    """What is asked inside a ``with`` block, recorded.

    Parameters
    ----------
    title : str
    notes : str
        What a person wants to say of it.
    store : Store, optional
        Where it is kept; default: this user's.
    keep : bool, default True
        Whether it is kept in the store; it can be saved to a file either way.

    Attributes
    ----------
    altered : str
        Of one that was loaded: what was changed after it was saved, as a sentence; mostly "".
    notices : list of str
        What a person should know: a store that could not be written to.

    Examples
    --------
    >>> with gw.Experiment("Labels") as experiment:  # doctest: +SKIP
    ...     run = model.map(df, "Good or bad? {review}", schema=labels, reproducible=True)
    >>> experiment.save("labels.json")  # doctest: +SKIP
    >>> gw.load_experiment("labels.json").replay()  # doctest: +SKIP
    <Replay, finished: All 500 answers are the same, to the last token.>
    """

    def __init__(
        self,
        title: str = "",
        *,
        notes: str = "",
        store: Store | None = None,
        keep: bool = True,
    ) -> None:
        _check_text("title", title, _MAX_TITLE)
        _check_text("notes", notes, _MAX_NOTES)
        self.altered = ""
        self.notices: list[str] = []
        self._given_store, self._keep = store, keep
        self._loaded: Judged | None = None
        self._lock = threading.Lock()
        self._recorder = Recorder(self._on_item)
        self._base = Record(
            id=uuid.uuid4().hex,
            title=title,
            notes=notes,
            created_at=time.time(),
            program={**about_program(), **about_machine()},
        )

    @classmethod
    def of(cls, found: Judged, *, store: Store | None = None) -> Self:
        """Return one that was recorded before."""
        experiment = cls(store=store, keep=False)
        experiment._base, experiment._loaded = found.record, found
        experiment.altered = found.altered
        return experiment

    # -- what it is -------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """32 hexadecimal digits."""
        return self._base.id

    @property
    def title(self) -> str:
        """What a person calls it."""
        return self._base.title

    @property
    def notes(self) -> str:
        """What a person said of it."""
        return self._base.notes

    @property
    def created_at(self) -> float:
        """When it was begun: seconds since 1970, UTC."""
        return self._base.created_at

    @property
    def record(self) -> Record:
        """Everything that is recorded so far."""
        if self._loaded is not None:
            return self._base
        return msgspec.structs.replace(
            self._base, models=self._recorder.models(), items=self._recorder.items()
        )

    @property
    def items(self) -> list[Item]:
        """What was asked, in the order in which it began, as far as it has ended."""
        return list(self.record.items)

    @property
    def models(self) -> list[ModelRecord]:
        """The models that were asked; an item names them by their place here."""
        return list(self.record.models)

    @property
    def digest(self) -> str:
        """The fingerprint (SHA-256) of the record as it is now."""
        return digest_of_record(self.record)

    @property
    def num_answers(self) -> int:
        """How many answers are recorded."""
        return say.num_answers(self.record)

    @property
    def strict(self) -> bool:
        """Whether every answer was computed by itself (``reproducible=True``)."""
        return say.is_strict(self.record)

    @property
    def is_complete(self) -> bool:
        """Whether all that began inside the block has ended and is recorded."""
        return not self._recorder.is_open

    @property
    def words(self) -> str:
        """What it is, in some sentences."""
        return say.words_of(self.record, altered=self.altered, is_complete=self.is_complete)

    # -- recording --------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> Self:
        """Begin to record, or go on; a ``with`` block does it.

        Raises
        ------
        InvalidValueError
            It was recorded before: a new one is needed.
        """
        if self._loaded is not None:
            raise InvalidValueError(
                "This experiment was recorded before, and is not changed any more. Begin a new one "
                "with Experiment(title)."
            )
        self._recorder.start()
        return self

    def close(self) -> None:
        """Record nothing more that begins from now on; the end of a ``with`` block does it.

        What is still going on (a batch run in the background) is not waited for; it is recorded
        when it ends.
        """
        self._recorder.stop()
        self._keep_all()

    def add(self, thing: BatchRun | Comparison) -> None:
        """Record a batch run or a comparison of before, or one that began elsewhere.

        Parameters
        ----------
        thing : BatchRun or Comparison
            Of rows that this process did not ask itself, or before this experiment began, the
            tokens are not known: a replay compares their texts.

        Raises
        ------
        InvalidValueError
            It is something else.
        """
        self._refuse_if_loaded()
        if isinstance(thing, BatchRun):
            self._recorder.add_run(thing)
            return
        from gguf_widgets.compare.comparison import Comparison  # most experiments have none

        if not isinstance(thing, Comparison):
            raise InvalidValueError(
                f"A batch run or a comparison can be added, and this is a {type(thing).__name__}. "
                "For a reply: add_reply(model, conversation, reply, **settings)."
            )
        self._recorder.add_comparison(thing)

    def add_reply(self, model: Model, conversation: Any, reply: Reply, **sampling: Any) -> None:
        """Record a reply of before.

        Parameters
        ----------
        model : Model
            That wrote it.
        conversation : str or list of messages
            As `Model.chat` was given it.
        reply : Reply
        **sampling
            As `Model.chat` was given it, ``begin_with``, ``tools`` and the like included.
        """
        self._refuse_if_loaded()
        if not isinstance(reply, Reply):
            raise InvalidValueError(f"This is no reply of a model, but a {type(reply).__name__}.")
        self._recorder.add_reply(model, model.request(conversation, **sampling), reply)

    def _refuse_if_loaded(self) -> None:
        if self._loaded is not None:
            raise InvalidValueError(
                "This experiment was recorded before, and nothing can be added to it."
            )

    # -- keeping it -------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, hash_files: bool = True) -> Path:
        """Write it to a JSON file, with fingerprints that tell whether it was changed later.

        Parameters
        ----------
        path : str or path-like
            What is there is replaced, once all of the new file is written.
        hash_files : bool, default True
            Read each model's file whole for its SHA-256, unless that is known already (some
            seconds for a large one, once).

        Returns
        -------
        Path

        Raises
        ------
        InvalidValueError
            It cannot be written there.
        """
        self._refresh()
        if hash_files and self._loaded is None:
            self._recorder.set_models([hashed(model) for model in self._recorder.models()])
            self._keep_all()
        return write_file(path, self.record)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values, without the fingerprints."""
        self._refresh()
        plain: dict[str, Any] = msgspec.to_builtins(self.record)
        return plain

    def to_frame(self) -> Any:
        """Return a DataFrame with a row for each answer: what was asked, the text, settings."""
        self._refresh()
        return say.frame_of(self.record)

    def _refresh(self) -> None:
        """Look again at what had not ended: a run that was stopped may have gone on since."""
        if self._loaded is None:
            self._recorder.wait(timeout_s=60.0)
            self._keep_all()

    def _on_item(self, number: int) -> None:
        item = self._recorder.item(number)
        if item is not None:
            self._keep_some({number: item})

    def _keep_all(self) -> None:
        """Keep what is not about single items, too."""
        self._keep_some({})

    def _keep_some(self, items: Mapping[int, Item]) -> None:
        if not self._keep or self._loaded is not None:
            return
        head = msgspec.structs.replace(self._base, models=self._recorder.models())
        try:
            with self._lock:
                KeptExperiments(self._store()).save(
                    self.id,
                    self.title,
                    self.created_at,
                    json.dumps(kept_form(head)),
                    {number: json.dumps(kept_form(item)) for number, item in items.items()},
                )
        except StoreError as error:
            notice = (
                f"This experiment is not kept in the store: {error.message} Save it to a file with "
                "save()."
            )
            if notice not in self.notices:
                self.notices.append(notice)

    def _store(self) -> Store:
        return self._given_store if self._given_store is not None else default_store()

    # -- asking it again --------------------------------------------------------------------------

    def replay(
        self,
        *,
        model: Chosen | Mapping[str, Chosen] | None = None,
        load: Mapping[str, Any] | None = None,
        sampling: Mapping[str, Any] | None = None,
        wait: bool = True,
        progress: Progress | None = None,
        manager: ModelManager | None = None,
    ) -> Replay:
        """Ask everything again as it was asked, and compare.

        Parameters
        ----------
        model : Model, str or path, or dict of these by the recorded model's name, optional
            Asked in place of the recorded one. Default: the recorded file, wherever it is now.
        load : dict, optional
            Settings of loading to change: ``{"n_ctx": 4096}``.
        sampling : dict, optional
            Settings of every request to change: ``{"temperature": 0.5}``.
        wait : bool, default True
            Wait for the end. An interrupt stops it and is raised; what was repeated is in
            `last_replay`, whose `start` goes on.
        progress : callable, optional
            Called with how far it is (0 to 1) and a phrase; answering False stops it.
        manager : ModelManager, optional
            Whose library the models are looked for in.

        Returns
        -------
        Replay
            Its `words` say what is the same and what is not. A model that is gone, or does not
            load, is no error: what could not be repeated is told with the reason.

        Raises
        ------
        InvalidValueError
            A setting is not allowed, or `model` names one that is not in the record.
        """
        self._refresh()
        replay = Replay(
            self.record,
            altered=self.altered,
            manager=manager,
            model=model,
            load=load,
            sampling=sampling,
            progress=progress,
        )
        self.last_replay = replay
        replay.start()
        return replay.wait() if wait else replay

    last_replay: Replay | None = None
    """The newest replay, also one that was stopped."""

    def __len__(self) -> int:
        return len(self.record.items)

    def __str__(self) -> str:
        return self.words

    def __repr__(self) -> str:
        return f"<Experiment {self.id[:8]}: {self.words}>"

    def _repr_html_(self) -> str:
        return say.as_html(self.record, self.words, self.notices)


def load_experiment(
    path_or_id: str | os.PathLike[str], *, store: Store | None = None
) -> Experiment:
    """Return an experiment that was recorded before.

    Parameters
    ----------
    path_or_id : str or path-like
        A file that `Experiment.save` has written, from whichever machine; or the id of one in the
        store, or the beginning of it.
    store : Store, optional
        Default: this user's.

    Returns
    -------
    Experiment
        Its `altered` says whether it was changed after it was saved.

    Raises
    ------
    InvalidValueError
        There is none; it is damaged, or of a newer version.
    """
    text = os.fspath(path_or_id)
    is_id = isinstance(path_or_id, str) and _ID.fullmatch(text) and not Path(text).exists()
    if not is_id:
        return Experiment.of(read_file(path_or_id), store=store)
    kept = KeptExperiments(store if store is not None else default_store())
    found = kept.find(text)
    document = {**found.data, "items": [json.loads(data) for data in kept.items(found.id)]}
    return Experiment.of(judged(document, is_sealed=False), store=store)


def experiments(*, store: Store | None = None, limit: int = 100) -> list[Experiment]:
    """Return the experiments in the store, the newest first.

    Parameters
    ----------
    store : Store, optional
        Default: this user's.
    limit : int, default 100
    """
    kept = KeptExperiments(store if store is not None else default_store())
    return [load_experiment(one.id, store=store) for one in kept.recent(limit=limit)]


def _check_text(name: str, given: Any, limit: int) -> None:
    if not isinstance(given, str):
        raise InvalidValueError(f"The {name} is a text, not a {type(given).__name__}.")
    if len(given) > limit:
        raise InvalidValueError(
            f"The {name} has {len(given):,} characters; at most {limit:,} are kept. Shorten it."
        )
