"""What a page does with one prompt that several sides answer: ask, stop, see where answers part.

Promises: the answers of the last question are there again after a reload and in another kernel;
where two answers part is found from what was written, and each model that is still in memory is
asked what it thought of the other's word. Leaves to others: asking (`_comparison_live`), the form
(`_comparison_setup`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

import msgspec

from gguf_widgets.compare.sides import SideRecord
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError, to_wire
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.preferences import Preferences
from gguf_widgets.core.scores.alignment import first_split
from gguf_widgets.core.scores.divergence import Divergence, with_both_sides
from gguf_widgets.core.scores.kl_divergence import same_vocabulary
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import Reply
from gguf_widgets.widgets._comparison_live import LiveSide, LiveSides
from gguf_widgets.widgets._comparison_setup import SetUp
from gguf_widgets.widgets._comparison_split import split_view
from gguf_widgets.widgets._comparison_words import live_view
from gguf_widgets.widgets._words import as_known

__all__ = ["ANSWERS_KEY", "Asking"]

Message = dict[str, Any]

ANSWERS_KEY: Final = "comparison_answers"
_MOST_KEPT: Final = 2_000_000  # characters, all sides together
_TOP: Final = 5

_log = logging.getLogger(__name__)


class Host(Protocol):
    """What the widget offers."""

    def touch(self) -> None:
        """Look at everything again and send what has changed."""
        ...

    def at_work(self, what: str, do: Callable[[], object]) -> None:
        """Have this done on the thread for long work, which is busy with `what` until then."""
        ...

    def answer(self, content: Message, buffers: list[bytes] | None = None, **more: Any) -> None:
        """Answer a message of the page, on any thread."""
        ...


class Asking:
    """One prompt and its answers.

    Parameters
    ----------
    host : Host
    set_up : SetUp
    store, manager
    keeps : bool
        Whether the answers are kept for the next kernel.
    """

    def __init__(
        self, host: Host, set_up: SetUp, store: Store, manager: ModelManager, *, keeps: bool
    ) -> None:
        self._host, self._set_up = host, set_up
        self._preferences = Preferences(store)
        self._keeps = keeps
        self.live = LiveSides(manager, host.touch)
        self._asked = ""
        self._kept_number = 0
        self._is_from_before = False
        if keeps:
            self._restore()

    def close(self) -> None:
        """Stop what is asked, and give its memory back."""
        self.live.close()
        self.keep()

    # -- from the page ----------------------------------------------------------------------------

    def _ask(self, _content: Message, _buffers: Any) -> Message:
        judged, draft = self._set_up.checked(), self._set_up.draft
        if not draft.prompt.strip():
            raise InvalidValueError("Write a prompt first.")
        self.live.start(
            judged.sides,
            draft.prompt,
            together=draft.order == "together",
            sampling=judged.sampling,
        )
        self._asked, self._is_from_before = draft.prompt, False
        return {}

    def _stop(self, _content: Message, _buffers: Any) -> Message:
        self.live.stop()
        return {}

    def _unload(self, _content: Message, _buffers: Any) -> Message:
        self._host.at_work("unloading", self.live.unload)
        return {}

    def _split(self, content: Message, _buffers: Any) -> None:
        sides = self.live.sides
        one, other = (_side_in(content.get(name), sides) for name in ("a", "b"))
        if one is None or other is None or one is other:
            raise InvalidValueError("Choose two different sides.")

        def look() -> None:
            try:
                view = split_view(self._divergence(one, other))
            except Exception as error:  # noqa: BLE001 - it is said where it was asked
                if not isinstance(error, GgufWidgetsError):
                    _log.exception("Where two answers part could not be found")
                self._host.answer(content, error=to_wire(as_known(error)))
            else:
                self._host.answer(content, split=view)

        self._host.at_work("parting", look)

    def _divergence(self, one: LiveSide, other: LiveSide) -> Divergence:
        a, b = one.reply, other.reply
        if a is None or b is None:
            raise InvalidValueError("Wait until both sides have answered.")
        same_question = one.messages == other.messages and one.messages is not None
        models = self.live.models(one.number, other.number) if same_question else None
        same = models is not None and same_vocabulary(*models)
        split = first_split(a, b, same_tokens=same)
        if split is not None and models is not None:
            split = with_both_sides(split, a, b, *models, one.messages, top=_TOP)
        return Divergence(name_a=one.record.label, name_b=other.record.label, a=a, b=b, split=split)

    ACTIONS: ClassVar[dict[str, Callable[[Any, Message, Any], Message | None]]] = {
        "ask": _ask,
        "ask-stop": _stop,
        "ask-unload": _unload,
        "ask-split": _split,
    }

    # -- to the page, and for the next kernel -----------------------------------------------------

    def part(self) -> Message | None:
        """Return what the pages show of it, but for the texts."""
        live = self.live
        if not live.sides:
            return None
        return {
            "question": live.number,
            "prompt": self._asked,
            "isRunning": live.is_running,
            "note": live.note,
            "numKept": live.num_kept,
            "isFromBefore": self._is_from_before,
            "sides": [live_view(side) for side in live.sides],
        }

    def keep(self) -> None:
        """Keep the answers of a question that has ended, once."""
        live = self.live
        if not self._keeps or live.is_running or live.number == self._kept_number:
            return
        self._kept_number = live.number
        sides = [_packed(side, with_tokens=True) for side in live.sides]
        if len(msgspec.json.encode(sides)) > _MOST_KEPT:
            sides = [_packed(side, with_tokens=False) for side in live.sides]
        if len(msgspec.json.encode(sides)) > _MOST_KEPT:
            return
        try:
            self._preferences.set(ANSWERS_KEY, {"prompt": self._asked, "sides": sides})
        except GgufWidgetsError as error:  # it is only a convenience
            _log.warning("The answers could not be kept: %s", error.message)

    def _restore(self) -> None:
        try:
            kept = self._preferences.get(ANSWERS_KEY)
            if not isinstance(kept, dict):
                return
            sides = [_unpacked(number, one) for number, one in enumerate(kept["sides"][:4])]
            self._asked = str(kept["prompt"])
        except (GgufWidgetsError, msgspec.ValidationError, KeyError, TypeError) as error:
            _log.warning("The answers of before cannot be read: %s", error)
            return
        self.live.sides = sides
        self._is_from_before = True


def _side_in(number: Any, sides: list[LiveSide]) -> LiveSide | None:
    is_number = isinstance(number, int) and not isinstance(number, bool)
    return sides[number] if is_number and 0 <= number < len(sides) else None


def _packed(side: LiveSide, *, with_tokens: bool) -> Message:
    reply = side.reply
    if reply is not None and not with_tokens:
        reply = msgspec.structs.replace(reply, logprobs=None, tokens=None)
    return {
        "record": side.record.to_dict(),
        "status": side.status,
        "error": side.error,
        "text": side.text,
        "reply": None if reply is None else msgspec.to_builtins(reply),
    }


def _unpacked(number: int, kept: Message) -> LiveSide:
    side = LiveSide(number, SideRecord.from_dict(kept["record"]), None, {})
    reply = kept["reply"]
    side.reply = None if reply is None else msgspec.convert(reply, Reply)
    side.status, side.error, side.text = str(kept["status"]), str(kept["error"]), str(kept["text"])
    return side
