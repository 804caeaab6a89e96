"""One prompt answered by several sides, read along: loaded, asked, stopped, kept in memory a while.

Promises: what memory holds together answers together, the rest after it, and it is said; a side
that cannot answer is told, and the others go on; Stop ends every side within seconds, and what was
written stays; models that were loaded for it stay in memory for `KEEP_S` and are given back then,
or when the view closes. Leaves to others: when a page hears of it (`_comparison_feed`), loading
(`compare.memory`), words on screen (`_comparison_words`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gguf_widgets.compare.memory import Memory
from gguf_widgets.compare.sides import Common, SideRecord, sides_of
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    LoadCancelledError,
    ModelUnloadedError,
    NotEnoughMemoryError,
    RequestCancelledError,
)
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.text_stream import TextStream
from gguf_widgets.core.types import FinishReason, Reply
from gguf_widgets.widgets._words import as_known

__all__ = ["KEEP_S", "LiveSide", "LiveSides", "SideText"]

KEEP_S: Final = 300.0
_TOP: Final = 5  # of each token's likeliest others, for where two answers part
_LETTERS: Final = "ABCD"

_log = logging.getLogger(__name__)


class SideText(msgspec.Struct, frozen=True, kw_only=True):
    """A side at one moment.

    Attributes
    ----------
    status : {"waiting", "loading", "answering", "done", "stopped", "failed"}
    phrase : str
        What it is doing: "Loading: 40%".
    text : str
    num_tokens : int
    rate : float or None
        Tokens written in a second: of the whole reply once it is there, else of the last while.
    first_s : float or None
        From its request to its first word.
    seconds : float or None
        How long it has been answering.
    cut_off : bool
        Whether it met the longest length.
    error : str
    reply : Reply or None
    """

    status: str = "waiting"
    phrase: str = ""
    text: str = ""
    num_tokens: int = 0
    rate: float | None = None
    first_s: float | None = None
    seconds: float | None = None
    cut_off: bool = False
    error: str = ""
    reply: Any = None


class LiveSide:
    """One side of it; the thread that reads its answer writes here, any other may look."""

    def __init__(self, number: int, record: SideRecord, messages: Any, sampling: Any) -> None:
        self.number, self.record = number, record
        self.messages, self.sampling = messages, sampling
        self.model: Model | None = None
        self.num_tokens = 0  # given to the reader by `_Reading`
        self.status, self.phrase, self.error = "waiting", "", ""
        self.text = ""
        self.reply: Reply | None = None
        self.began: float | None = None
        self.first: float | None = None
        self.ended: float | None = None
        self.stream: TextStream | None = None

    @property
    def letter(self) -> str:
        """What the page calls it beside its name."""
        return _LETTERS[self.number]

    def now(self) -> SideText:
        """Return it as it is at this moment."""
        reply, began, first = self.reply, self.began, self.first
        end = self.ended if self.ended is not None else time.monotonic()
        seconds = end - began if began is not None else None
        rate = first_s = None
        num = self.num_tokens
        if reply is not None:
            num = reply.usage.num_completion_tokens
            rate, first_s = reply.timings.decode_tok_per_s, reply.timings.ttft_s
            seconds = reply.timings.total_s
        elif began is not None and first is not None:
            first_s = first - began
            if num > 1 and end > first:
                rate = (num - 1) / (end - first)
        phrase, stream = self.phrase, self.stream
        if first is None and stream is not None and stream.progress is not None:
            done = stream.progress
            if done.num_total:
                phrase = f"Reading the prompt: {100 * done.num_done // done.num_total}%"
        return SideText(
            status=self.status,
            phrase=phrase,
            text=self.text,
            num_tokens=num,
            rate=rate,
            first_s=first_s,
            seconds=seconds,
            cut_off=reply is not None and reply.finish_reason is FinishReason.LENGTH,
            error=self.error,
            reply=reply,
        )


class LiveSides:
    """Asks several sides one prompt.

    Parameters
    ----------
    manager : ModelManager
    changed : callable
        Called on any thread when there is something new; must return at once.
    keep_s : float
        How long models stay in memory after the last question.

    Attributes
    ----------
    sides : list of LiveSide
        Of the last question; [] before it.
    note : str
        A sentence on how they are asked.
    number : int
        Counts the questions.
    """

    def __init__(
        self, manager: ModelManager, changed: Callable[[], object], keep_s: float = KEEP_S
    ) -> None:
        self._manager, self._changed, self._keep_s = manager, changed, keep_s
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._is_closed = self._is_running = False
        self._thread: threading.Thread | None = None
        self._memories: list[Memory] = []
        self._kept: dict[Any, Model] = {}  # loaded here, by what they were loaded with
        self._timer: threading.Timer | None = None
        self.sides: list[LiveSide] = []
        self.note = ""
        self.number = 0

    # -- any thread -------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether a question is being answered."""
        return self._is_running

    @property
    def num_kept(self) -> int:
        """How many models that were loaded here are still in memory."""
        return sum(model.loaded for model in self._kept.values())

    def start(
        self, sides: Sequence[Any], prompt: str, *, together: bool, sampling: Mapping[str, Any]
    ) -> None:
        """Begin; what is wrong with the sides or the prompt is raised here.

        Raises
        ------
        InvalidValueError
            A side cannot be; a question is still being answered.
        """
        common = Common(
            template="{prompt}",
            system=None,
            schema=None,
            sampling=dict(sampling),
            reproducible=False,
        )
        records, given = sides_of(sides, common)
        made = [
            LiveSide(
                number,
                record,
                record.prompt(common).template.render({"prompt": prompt}),
                record.sampling_of(common),
            )
            for number, record in enumerate(records)
        ]
        with self._lock:
            if self._is_running:
                raise RequestCancelledError("The sides are still answering. Stop them first.")
            self._forget_timer()
            self._stopping.clear()
            self._is_running = True
            self.sides, self.note = made, ""
            self.number += 1
            self._thread = threading.Thread(
                target=self._run,
                args=(made, given, together),
                name="gguf-widgets-side-by-side",
                daemon=True,
            )
            self._thread.start()
        self._changed()

    def stop(self) -> None:
        """End every side soon; what was written stays."""
        self._stopping.set()
        for side in self.sides:
            stream = side.stream
            if stream is not None:
                stream.stop()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; return whether it has come."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return not self.is_running

    def unload(self) -> None:
        """Give the memory back that was taken here; not while a question is answered."""
        with self._lock:
            if self.is_running:
                return
            self._unload()
        self._changed()

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop and give everything back."""
        self._is_closed = True
        self.stop()
        self.wait(timeout_s)
        self._forget_timer()
        with self._lock:
            self._unload()

    def models(self, a: int, b: int) -> tuple[Model, Model] | None:
        """Return two sides' models if both are in memory now."""
        one, other = self.sides[a].model, self.sides[b].model
        if one is None or other is None or not one.loaded or not other.loaded:
            return None
        return one, other

    # -- the thread -------------------------------------------------------------------------------

    def _run(self, sides: list[LiveSide], given: Mapping[int, Model], together: bool) -> None:
        try:
            self._answer(sides, given, together)
        except Exception as error:  # noqa: BLE001 - it is said where the answer would be
            _log.exception("A question to several sides met an error it did not expect")
            for side in sides:
                if side.status in ("waiting", "loading", "answering"):
                    self._fail(side, error)
        finally:
            for side in sides:
                if side.status in ("waiting", "loading"):
                    side.status, side.phrase = "stopped", ""
            self._is_running = False
            self._begin_timer()
            self._changed()

    def _answer(self, sides: list[LiveSide], given: Mapping[int, Model], together: bool) -> None:
        self._drop_others(sides, given)
        waiting = list(sides)
        while waiting and not self._stopping.is_set():
            now, later = self._load(waiting, given)
            if later:
                self.note = (
                    "Memory does not hold all models at once: they answer one after another."
                )
            groups = [now] if together else [[side] for side in now]
            for group in groups:
                readers = [
                    threading.Thread(target=self._read, args=(side,), daemon=True) for side in group
                ]
                for reader in readers:
                    reader.start()
                for reader in readers:
                    reader.join()
            waiting = later
            if waiting:
                self._unload()

    def _load(
        self, sides: Sequence[LiveSide], given: Mapping[int, Model]
    ) -> tuple[list[LiveSide], list[LiveSide]]:
        """Load as many as there is room for; return those, and those that come after them."""
        by_number = {side.number: side for side in sides}
        kept = {
            side.number: self._kept[_key(side.record)]
            for side in sides
            if side.number not in given and _key(side.record) in self._kept
        }
        have = {**kept, **{n: model for n, model in given.items() if n in by_number}}
        loading: list[LiveSide] = []

        def begins(number: int) -> None:
            loading[:] = [by_number[number]]
            loading[0].status, loading[0].phrase = "loading", "Loading the model"
            self._changed()

        def comes(fraction: float, _phrase: str) -> None:
            for side in loading:
                side.phrase = f"Loading the model: {100 * fraction:.0f}%"
            self._changed()

        memory = Memory(self._manager, have, self._stopping.is_set, comes)

        try:
            loaded = memory.load([(side.number, side.record) for side in sides], begins)
        except LoadCancelledError:
            memory.unload()
            return [], []
        if any(model not in have.values() for model in loaded.models.values()):
            self._memories.append(memory)
        later = [by_number[number] for number in loaded.later]
        for number, error in loaded.failed.items():
            # What is in memory from before is not Memory's own, so it cannot know that room comes.
            if isinstance(error, NotEnoughMemoryError) and kept and number not in kept:
                later.append(by_number[number])
            else:
                self._fail(by_number[number], error)
        now = []
        for number, model in loaded.models.items():
            side = by_number[number]
            side.model, side.status, side.phrase = model, "waiting", ""
            if number not in given:
                self._kept[_key(side.record)] = model
            now.append(side)
        for side in later:
            side.status, side.phrase = "waiting", "Waits until there is room in memory"
        self._changed()
        return now, later

    def _read(self, side: LiveSide) -> None:
        """Read one side's answer to its end."""
        model = side.model
        if model is None or self._stopping.is_set():
            return
        try:
            side.began = time.monotonic()
            side.status, side.phrase = "answering", "Reading the prompt"
            self._changed()
            with model.stream(side.messages, **{**side.sampling, "logprobs": _TOP}) as stream:
                side.stream = stream
                if self._stopping.is_set():
                    stream.stop()
                for delta in stream:
                    if side.first is None:
                        side.first, side.phrase = time.monotonic(), ""
                    side.num_tokens = delta.num_completion_tokens
                    side.text += delta.text
                    self._changed()
                side.reply = reply = stream.reply
                side.text = reply.text
            aborted = reply.finish_reason is FinishReason.ABORTED
            side.status, side.phrase = "stopped" if aborted else "done", ""
        except GgufWidgetsError as error:
            self._fail(side, error)
        except Exception as error:  # noqa: BLE001 - one side's fault is not the others'
            _log.exception("A side met an error it did not expect")
            self._fail(side, error)
        finally:
            side.ended, side.stream = time.monotonic(), None
            self._changed()

    def _fail(self, side: LiveSide, error: Exception) -> None:
        side.status, side.phrase, side.error = "failed", "", as_known(error).message
        self._changed()

    # -- memory -----------------------------------------------------------------------------------

    def _drop_others(self, sides: Sequence[LiveSide], given: Mapping[int, Model]) -> None:
        """Give back what the sides of now do not need, so that there is room for what they do."""
        wanted = {_key(side.record) for side in sides if side.number not in given}
        for key, model in list(self._kept.items()):
            if key not in wanted or not model.loaded:
                del self._kept[key]
                _unload_one(model)

    def _unload(self) -> None:
        for model in self._kept.values():
            _unload_one(model)
        self._kept.clear()
        memories, self._memories = self._memories, []
        for memory in memories:
            memory.unload()

    def _begin_timer(self) -> None:
        if self._is_closed or not self._kept:
            return
        self._timer = threading.Timer(self._keep_s, self.unload)
        self._timer.daemon = True
        self._timer.start()

    def _forget_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


def _key(record: SideRecord) -> tuple[str, str, str]:
    load = repr(sorted(record.load.items(), key=str))
    return record.path or record.name, load, record.chat_template or ""


def _unload_one(model: Model) -> None:
    try:
        if model.loaded:
            model.unload()
    except (ModelUnloadedError, OSError) as error:
        _log.warning("A model could not be given back: %s", error)
