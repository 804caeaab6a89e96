"""Calls of tools in a chat: asked for, allowed, run, and answered.

Promises
--------
- No call runs without a yes: a person's (`approve`), a program's (the approver), or that of
  whoever declared the tool safe. Where there is nobody to ask, it is declined in words.
- What happens to a call is in the store at each step. After a reload or a restart the waiting call
  is there again; one whose program ended while it ran counts as interrupted and has to be allowed
  once more, and one that another program still runs cannot be.
- A call runs at most once for each yes, also when two windows or programs show it: before it runs,
  it is claimed in the store.
- One call runs at a time, in the order of the yeses, on a thread of its own; one that hangs or was
  stopped holds nothing up, nor does an approver that never answers. When the last call of an answer
  has its result, the model goes on; after `ToolBox.max_rounds` rounds it has to answer without
  tools.
- A chat that is dropped while a call of it runs leaves no call that counts as running.

Leaves to others: keeping the calls (`tool_calls`), running one (`tools.run`), writing them
(`tools.writing`), who says yes (`tool_yes`), the conversation (`interface`), asking on the screen
(`widgets`).
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gguf_widgets.core.chat.tool_calls import KeepsCalls
from gguf_widgets.core.chat.tool_host import ToolHost
from gguf_widgets.core.chat.tool_turn import FINAL, Turn, call_of, changes_of, num_rounds
from gguf_widgets.core.chat.tool_yes import NOBODY, Approver, Question, Say, WhoSaysYes
from gguf_widgets.core.chat.types import ChatMessage, MessageStatus, ToolCall
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    InvalidValueError,
    RequestError,
)
from gguf_widgets.core.tools.asking import ToolModel
from gguf_widgets.core.tools.run import Run
from gguf_widgets.core.tools.toolbox import ToolBox, as_box
from gguf_widgets.core.types import Reply

__all__ = ["Approver", "ToolLoop"]

_CLOSE_WAIT_S = 2.0
_SLICE_S = 0.5


class ToolLoop(KeepsCalls):
    """The tools of one chat, and the calls under way.

    Parameters
    ----------
    chat : ChatInterface
    tools : ToolBox or list of callable, optional
    approver : callable, optional
        Asked before each call that needs a yes, on a thread of its own.
    """

    def __init__(self, chat: Any, tools: Any = None, approver: Approver | None = None) -> None:
        self._host = ToolHost(chat)
        self._box = as_box(tools)
        self._yes = WhoSaysYes(approver)
        self._allowed: list[str] = []  # ids of calls that may run, in the order of the yeses
        self._thread: threading.Thread | None = None
        self._at_work_on: str | None = None  # the id of the message whose calls the thread runs
        self._current: Run | Question | None = None  # what the thread waits for
        self._current_id: str | None = None
        self._asking_id: str | None = None
        self._stopped = False
        self._closed = False
        self._turn: Turn | None = None
        self._turns: weakref.WeakKeyDictionary[Any, Turn] = weakref.WeakKeyDictionary()
        self._left: weakref.WeakSet[Any] = weakref.WeakSet()  # answers that ended out of sight

    # -- what there is ----------------------------------------------------------------------------

    @property
    def tools(self) -> ToolBox | None:
        """The tools; None without any. A list of functions may be set."""
        return self._box if len(self._box) > 0 else None

    @tools.setter
    def tools(self, tools: Any) -> None:
        self._box = as_box(tools)
        self._host.settings_changed()

    @property
    def running(self) -> bool:
        """Whether a call runs, or is about to."""
        return self._thread is not None

    @property
    def was_stopped(self) -> bool:
        """Whether the person has stopped it, and not let it go on since."""
        return self._stopped

    @property
    def running_id(self) -> str | None:
        """The id of the call that runs."""
        return self._current_id

    @property
    def asking_id(self) -> str | None:
        """The id of the call about which the program is asked at this moment."""
        return self._asking_id

    @property
    def allowed_ids(self) -> list[str]:
        """The ids of calls that may run and wait for their turn."""
        return list(self._allowed)

    @property
    def may_go_on(self) -> bool:
        """Whether the last message's calls all have results and the model has not gone on."""
        is_open = self._leaf() is None or bool(self.open_calls())
        return not (is_open or self._host.is_writing or self.running)

    def open_calls(self) -> list[ToolCall]:
        """Return the calls of the last message that have no result yet, running ones included."""
        message = self._leaf()
        return [c for c in message.tool_calls if c.status not in FINAL] if message else []

    def ask_here(self) -> Callable[[], None]:
        """Say that a person sees the calls and can be asked; return what takes that back."""
        return self._yes.ask_here()

    # -- asking the model -------------------------------------------------------------------------

    def model_for(self, model: Any, line: Sequence[ChatMessage]) -> Any:
        """Return what is asked in place of the model: one with the tools.

        Parameters
        ----------
        model : Model
        line : sequence of ChatMessage
            What the answer follows on; its calls count for the limit of rounds.

        Returns
        -------
        ToolModel or Model
            The model itself where there are neither tools nor calls.
        """
        if model is None or (not len(self._box) and not any(m.tool_calls for m in line)):
            return model
        return ToolModel(model, self._box, may_call=num_rounds(line) < self._box.max_rounds)

    def after(self, answer: Any, message: ChatMessage) -> None:
        """Take up the calls of an answer that has just ended; end the turn if it has none."""
        with self._host.held():
            turn = self._turn
            if not self._is_on_screen(message.id) and (turn is None or answer not in turn.answers):
                self._left.add(answer)  # no turn of what is on screen; its calls wait
                return
            self._turn = None
            if turn is not None:
                turn.add(answer)
            if not message.tool_calls:
                if turn is not None:
                    turn.end()
                return
            if turn is None:
                turn = Turn()
                turn.add(answer)
                self._turns[answer] = turn
            turn.deltas = answer.take_deltas() or turn.deltas
            self._turn = turn
            stopped = answer.was_stopped or message.status is not MessageStatus.COMPLETE
            if stopped or self._closed or not self._is_leaf(message):
                self._end_turn()  # the calls wait for whoever comes back
                return
            self._stopped = False
            decided = tuple(self._decided(call, message) for call in message.tool_calls)
            if decided != message.tool_calls:
                self._host.change(msgspec.structs.replace(message, tool_calls=decided))
            self._go()

    def last_of(self, answer: Any) -> Any:
        """Return the newest answer of the turn that `answer` began."""
        turn = self._turns.get(answer)
        return turn.answers[-1] if turn is not None else answer

    def is_over(self, answer: Any) -> bool:
        """Return whether the turn that `answer` began is over."""
        turn = self._turns.get(answer)
        return turn.over.is_set() if turn is not None else bool(answer.future.done())

    def final(self, answer: Any, reply: Reply) -> Reply:
        """Return the last reply of the turn that `answer` began; waits while tools run.

        Raises
        ------
        GgufWidgetsError
            The last answer failed, or could not be begun.
        """
        turn = self._turns.get(answer)
        if turn is None:
            return reply
        try:
            while not turn.over.wait(_SLICE_S):
                pass
        except KeyboardInterrupt:
            self.stop()
            raise
        if turn.error is not None:
            raise turn.error
        last = turn.answers[-1]
        final: Reply = reply if last is answer else last.result()
        return final

    # -- a person's word --------------------------------------------------------------------------

    def approve(self, call_id: str, *, always: bool = False) -> None:
        """Let a waiting call run.

        Parameters
        ----------
        call_id : str
        always : bool, default False
            Also let later calls of this tool run, in this conversation, until this program ends.

        Raises
        ------
        InvalidValueError
            No such call waits here, or its function is not here any more.
        RequestError
            It was answered in another window.
        """
        with self._host.held():
            message, call = self._waiting(call_id)
            if self._box.get(call.name) is None:
                raise InvalidValueError(
                    f"The function {call.name!r} is not here any more, so the call cannot run. Make"
                    " the chat with tools=[...] again, or decline.",
                    name=call.name,
                )
            self._refresh(message, call)
            self._stopped = False
            chosen = [call.id]
            if always is True:
                self._yes.allow_for_good(message.conversation_id, call.name)
                self._change(message.id, call.id, always=True)
                chosen += [
                    one.id
                    for one in message.tool_calls
                    if one.name == call.name and one.status == "waiting" and one.id != call.id
                ]
            self._allowed += [one for one in chosen if one not in self._allowed]
            self._go()

    def decline(self, call_id: str) -> None:
        """Do not let a waiting call run; the model is told so. Errors as for `approve`."""
        with self._host.held():
            message, call = self._waiting(call_id)
            self._refresh(message, call)
            self._stopped = False
            self._change(message.id, call.id, status="declined", error=None)
            self._go()

    def go_on(self) -> None:
        """Let the model go on after calls that all have results; if there is none, do nothing.

        Raises
        ------
        GgufWidgetsError
            The answer could not be begun.
        """
        with self._host.held():
            message = self._leaf() if self.may_go_on else None
            if message is not None:
                self._stopped = False
        if message is not None:
            self._next(message)

    def set_aside(self) -> None:
        """Decline the calls that wait, because the person has written something else instead."""
        with self._host.held():
            if self.running:
                return
            message = self._leaf()
            for call in self.open_calls():
                assert message is not None  # noqa: S101 - for the type checker: it has calls
                if call.status == "running" and self._host.is_held(message.id):
                    continue  # in another window: what comes of it is kept there
                words = "The user wrote something else instead."
                self._change(
                    message.id, call.id, unless_not=call.status, status="declined", error=words
                )
            self.leave_turn()

    def leave_turn(self) -> None:
        """End the turn, because another answer is begun; with the lock held."""
        self._allowed.clear()
        self._end_turn()

    def stop_unseen(self) -> None:
        """Stop what runs, and end the turn, for an answer that was taken from the screen."""
        with self._host.held():
            turn = self._turn
            ids = [self._at_work_on] if self.running else []
            ids += [turn.answers[-1].message.id] if turn is not None and turn.answers else []
            if ids and not any(self._is_on_screen(one) for one in ids):
                self.stop()

    def stop(self) -> None:
        """Wait for the running call no more, and end the turn; waiting calls stay waiting."""
        with self._host.held():
            self._stopped = True
            self._allowed.clear()
            current = self._current
            if current is None:
                self._end_turn()
        if current is not None:
            current.stop()

    def close(self) -> None:
        """Stop, and wait at most some seconds for the end."""
        self._closed = True
        with contextlib.suppress(ReferenceError):
            self.stop()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSE_WAIT_S)

    # -- the work ---------------------------------------------------------------------------------

    def _decided(self, call: ToolCall, message: ChatMessage) -> ToolCall:
        """Decide what can be decided without asking; with the lock held."""
        tool = self._box.get(call.name)
        if tool is None:
            names = ", ".join(self._box.names) or "none"
            return msgspec.structs.replace(
                call, status="failed", error=f"There is no tool {call.name!r}; there are: {names}."
            )
        who = self._yes.about(tool, message.conversation_id)
        if who is Say.NOBODY_THERE:
            return msgspec.structs.replace(call, status="declined", error=NOBODY)
        if who is not Say.PERSON:  # the program is asked on the thread
            self._allowed.append(call.id)
        return call

    def _go(self) -> None:
        """Let a thread do what can be done now; with the lock held."""
        message = self._leaf()
        if self._thread is not None or self._closed or message is None:
            return
        open_calls = self.open_calls()
        if open_calls and not any(call.id in self._allowed for call in open_calls):
            return  # a person is to say
        self._at_work_on = message.id
        self._thread = threading.Thread(target=self._work, name="gguf-widgets-tools", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # the system has no thread left
            self._thread = None
            self._end_turn()
            raise RequestError(f"The tool could not be started: {error}. Try again.") from error

    def _work(self) -> None:
        try:
            while self._run_one():
                pass
        except ReferenceError:
            return  # nobody holds the chat any more
        except GgufWidgetsError as error:  # the store: the call was not run
            self._allowed.clear()
            self._host.notice(f"The tool was not run. {error.message}")
        finally:
            with contextlib.suppress(ReferenceError):
                self._rest()

    def _rest(self) -> None:
        """Let the model go on if all is done, or wait for the person."""
        with self._host.held():
            self._thread = None
            message = self._leaf()
            # A yes to a call that is not on screen any more has to be said again.
            self._allowed = [one for one in self._allowed if call_of(message, one) is not None]
            if message is not None and message.id != self._at_work_on:
                self._end_turn()  # another conversation is open now
                message = None
                self._go()
            elif message is None or self._stopped or self._closed:
                self._end_turn()
            elif any(call.id in self._allowed for call in self.open_calls()):
                self._go()  # allowed in this very moment
                return
            done = message is not None and not self.open_calls() and not self._stopped
            if message is not None and not done:
                self._host.show(message)  # nothing runs any more
        if message is None or not done or self._closed:
            return
        try:
            self._next(message)
        except GgufWidgetsError as error:
            if error.details.get("reason") == "stopped":
                with self._host.held():
                    self._host.show(message)
            elif self._is_leaf(message):  # else the person has gone on in this very moment
                self._host.notice(f"The model could not go on with the results: {error.message}")

    def _next(self, message: ChatMessage) -> None:
        """Begin the model's next answer; without the lock, for it tells the observers."""
        rounds = num_rounds(self._host.messages)
        turn = self._turn
        try:
            answer = self._host.answer_after(message, turn.deltas if turn is not None else None)
        except BaseException as error:
            with self._host.held():
                if turn is not None:
                    words = f"The model could not go on: {error!r:.200}."
                    turn.error = (
                        error if isinstance(error, GgufWidgetsError) else RequestError(words)
                    )
                    turn.end()
                if self._turn is turn:
                    self._turn = None
            raise
        with self._host.held():
            stopped = self._stopped  # after it was begun, by somebody who did not know it yet
            if turn is not None:
                turn.add(answer)
                if answer in self._left:
                    turn.end()
        if stopped:
            answer.stop()
        if len(self._box) and rounds >= self._box.max_rounds:
            self._host.notice(
                f"The model asked for tools {rounds} times in a row, which is the limit"
                " (max_rounds), so it has to answer without them now."
            )

    def _run_one(self) -> bool:
        """Run the next call that may; return whether there was one."""
        with self._host.held():
            message = self._leaf()
            if message is None or message.id != self._at_work_on or self._stopped or self._closed:
                return False
            # `call_of` finds the call that a yes was given to, as `_waiting` did then.
            known = (call_of(message, one) for one in self._allowed)
            call = next((c for c in known if c is not None and c.status not in FINAL), None)
            if call is None:
                return False
            tool = self._box.get(call.name)
            who = self._yes.about(tool, message.conversation_id) if tool is not None else None
        if who is Say.PROGRAM and not self._program_allows(message, call):
            return True
        with self._host.held():
            if self._stopped or not self._claim(message.id, call):
                return not self._stopped
            if tool is None:
                words = "The function is not here any more."
                self._change(message.id, call.id, status="failed", error=words)
                return True
            run = Run(tool, call.arguments, self._box.timeout_of(tool))
            self._current, self._current_id = run, call.id
        changes = changes_of(run.wait())
        try:
            with self._host.held():
                self._current = self._current_id = None
                self._take_back_yes(call.id)
                self._change(message.id, call.id, **changes)
        except ReferenceError:  # the chat was dropped; what it has claimed is to be settled
            self._settle_unseen(message.id, call.id, changes)
            raise
        return True

    def _program_allows(self, message: ChatMessage, call: ToolCall) -> bool:
        """Ask the program; what it does not allow is declined.

        Stopped before it has answered, the call stays waiting.
        """
        with self._host.held():
            if self._stopped:
                return False
            question = self._current = self._yes.question(call)
            self._asking_id = call.id
            self._host.show(message)
        said = question.wait()
        with self._host.held():
            self._current = self._asking_id = None
            if said is None or self._stopped:
                return False  # whatever it said: the person was first
            if said.for_good:
                self._yes.allow_for_good(message.conversation_id, call.name)
                self._change(message.id, call.id, always=True)
            if not said.yes:
                self._take_back_yes(call.id)
                self._change(message.id, call.id, status="declined", error=said.why_not)
        return said.yes

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.end()
