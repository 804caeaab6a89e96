"""Saving and restoring prefixes, from the message to the file and back.

Promises: each request is answered once, as `requests` promises; a prefix that is not in the cache
is computed like any other request, in its turn, and can be stopped like one; the engine's thread
only copies memory, while files are checked, read and written by a thread of their own, one at a
time, and a file's thread gives up when nobody waits any more. Leaves to others: the cache
(`engine.state`), the file (`core.state_file`).

The way of a save: prepare (a preparing thread) -> copy (the engine's; computing it before, if need
be) -> write (the files' thread) -> answer. Of a restore: look (the files' thread) -> is it there
already? (the engine's) -> read (the files') -> put (the engine's) -> answer. Between two of these
it passes the loop, where requests end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

import gguf_widgets
from gguf_widgets.core.engine.state import new_state
from gguf_widgets.core.engine.state_prompt import conversation_prefix, text_prefix
from gguf_widgets.core.errors import (
    InvalidValueError,
    RequestCancelledError,
    WorkerBusyError,
    from_wire,
)
from gguf_widgets.core.state_file import PrefixInfo, SavedState, new_header, open_state, pack, shown
from gguf_widgets.core.state_identity import StateIdentity, check_same
from gguf_widgets.core.state_key import user_key
from gguf_widgets.core.state_write import check_destination, write_state
from gguf_widgets.core.types import (
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    Message,
    SamplingSettings,
)
from gguf_widgets.core.worker import protocol
from gguf_widgets.core.worker.engine_thread import EngineLike, EngineThread
from gguf_widgets.core.worker.loading import LoadedModel

__all__ = ["OpenRequest", "PrefixRequests", "Save"]

T = TypeVar("T")

# A prefix may be pushed out of a full cache in the moment when it has been computed.
_MOST_TRIES = 3


class OpenRequest(Protocol):
    """What is known of a request that has not been answered.

    `in_engine` says that an abort goes to the engine; `aborted` that one has come.
    """

    in_engine: bool
    aborted: bool


@dataclass
class Save:
    """A prefix on its way into a file."""

    request: GenerateRequest
    path: Path
    identity: StateIdentity
    num_cached: int | None = None
    num_tries: int = 0


class PrefixRequests:
    """The requests of a worker that are about saved prefixes.

    Everything public is called on the loop, except `prepare`.

    Parameters
    ----------
    engine : EngineThread
    model : LoadedModel
    open_requests : mapping of str to OpenRequest
        Those that have not been answered; any thread may look whether one is there.
    answer, fail : callable
        End a request, with a message or an error; called on the loop.
    """

    def __init__(
        self,
        engine: EngineThread,
        model: LoadedModel,
        open_requests: Mapping[str, OpenRequest],
        answer: Callable[[str, Any], None],
        fail: Callable[[str, BaseException], None],
    ) -> None:
        self._engine = engine
        self._model = model
        self._open = open_requests
        self._answer = answer
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._files = ThreadPoolExecutor(1, "gguf-widgets-prefixes")

    def close(self) -> None:
        """Wait for the file that is being read or written; it is given up if nobody waits."""
        self._files.shutdown(wait=True, cancel_futures=True)

    # --- saving ---

    def prepare(self, message: protocol.SavePrefix, client_id: str) -> Save:
        """Find out what is to be saved, and whether it can be; for a preparing thread."""
        path = _absolute(message.path)
        message.prompt.check()
        check_destination(path)
        tokens = self._tokens(message.prompt)
        self._model.engine.prefixes.check_length(len(tokens))
        return Save(
            request=GenerateRequest(
                request_id=message.request_id,
                client_id=client_id,
                prompt_tokens=tokens,
                sampling=SamplingSettings(temperature=0.0, max_tokens=1),
            ),
            path=path,
            identity=self._identity(),
        )

    def save(self, request_id: str, save: Save) -> None:
        """Have a prefix copied, and computed before if need be, and written."""
        self._open[request_id].in_engine = True
        self._engine.call(lambda engine: self._copy(engine, save))

    def _copy(self, engine: EngineLike, save: Save) -> None:
        tokens = save.request.prompt_tokens
        try:
            state = engine.prefixes.copy(tokens)
            if state is not None:
                if save.num_cached is None:
                    save.num_cached = len(tokens)
                self._on_loop(self._write, save, state)
                return
            if save.num_tries < _MOST_TRIES:
                save.num_tries += 1
                self._engine.add_hidden(save.request, lambda end: self._computed(engine, save, end))
                return
            self._on_loop(self._fail, save.request.request_id, _pushed_out(len(tokens)))
        except Exception as error:  # noqa: BLE001 - it is the answer to this one request
            self._on_loop(self._fail, save.request.request_id, error)

    def _computed(self, engine: EngineLike, save: Save, end: Finished | Failed) -> None:
        request_id = save.request.request_id
        if isinstance(end, Failed):
            self._on_loop(self._fail, request_id, from_wire(end.error))
        elif end.reply.finish_reason is FinishReason.ABORTED:
            self._on_loop(self._fail, request_id, _stopped("saved"))
        else:
            save.num_cached = end.reply.usage.num_cached_tokens
            self._copy(engine, save)

    def _write(self, save: Save, state: NDArray[np.uint8]) -> None:
        request_id = save.request.request_id
        request = self._open.get(request_id)
        if request is None:
            return
        if request.aborted:
            self._fail(request_id, _stopped("saved"))
            return
        request.in_engine = False
        tokens = save.request.prompt_tokens

        def work() -> PrefixInfo:
            data = state.data
            header = new_header(save.identity, tokens, data, gguf_widgets.__version__)
            start = pack(header, user_key())
            size = write_state(save.path, start, data, lambda: request_id not in self._open)
            return PrefixInfo(
                path=str(save.path),
                num_tokens=len(tokens),
                num_cached_tokens=save.num_cached or 0,
                size_bytes=size,
                created=header.created,
            )

        self._with_files(request_id, work, lambda info: self._tell(request_id, info))

    # --- restoring ---

    def restore(self, message: protocol.RestorePrefix) -> None:
        """Have a prefix read, unless the model has it already, and put into its cache."""
        request_id = message.request_id

        def look() -> tuple[list[int], PrefixInfo]:
            with self._opened(message.path) as saved:
                tokens = saved.header.token_list()
                return tokens, _info(saved, num_cached=len(tokens))

        def ask(found: tuple[list[int], PrefixInfo]) -> None:
            tokens, info = found
            self._in_engine(
                request_id,
                lambda engine: engine.prefixes.has(tokens),
                lambda there: self._tell(request_id, info) if there else self._read(message),
            )

        self._with_files(request_id, look, ask)

    def _read(self, message: protocol.RestorePrefix) -> None:
        request_id = message.request_id

        def read() -> tuple[list[int], NDArray[np.uint8], PrefixInfo]:
            with self._opened(message.path) as saved:
                state = new_state(saved.header.state_bytes)
                saved.read_into(state.data, lambda: request_id not in self._open)
                return saved.header.token_list(), state, _info(saved, num_cached=0)

        def put(found: tuple[list[int], NDArray[np.uint8], PrefixInfo]) -> None:
            tokens, state, info = found
            self._in_engine(
                request_id,
                lambda engine: engine.prefixes.put(tokens, state),
                lambda _: self._tell(request_id, info),
            )

        self._with_files(request_id, read, put)

    @contextlib.contextmanager
    def _opened(self, name: str) -> Any:
        """Open a saved prefix that is of use here."""
        path = _absolute(name)
        with open_state(path, user_key()) as saved:
            check_same(saved.header.identity, self._identity(), shown(path))
            self._model.engine.prefixes.check_length(len(saved.header.tokens) // 4)
            yield saved

    # --- what both need ---

    def _identity(self) -> StateIdentity:
        engine = self._model.engine
        return StateIdentity.of(
            self._model.info,
            self._model.files.digest(),
            engine.settings,
            engine.backend.state_format,
        )

    def _tokens(self, prompt: protocol.Prompt) -> list[int]:
        """Return the tokens that every prompt begins with that goes on from this one."""
        if prompt.tokens is not None:
            if not prompt.tokens:
                raise InvalidValueError("There are no tokens to save.")
            return prompt.tokens
        if prompt.text is not None:
            return text_prefix(
                lambda text: self._model.prompts.make(protocol.Prompt(text=text)).tokens,
                prompt.text,
            )
        if not prompt.messages:
            raise InvalidValueError("The conversation is empty: there is nothing to save.")
        if prompt.has_images:
            raise InvalidValueError(
                "A conversation with images cannot be saved as a prefix. Leave the images out."
            )

        def rendered(messages: list[Message]) -> list[int]:
            return self._model.prompts.make(
                protocol.Prompt(messages=messages, chat_template=prompt.chat_template)
            ).tokens

        return conversation_prefix(rendered, prompt.messages)

    def _tell(self, request_id: str, info: PrefixInfo) -> None:
        self._answer(request_id, protocol.Prefix(request_id=request_id, info=info))

    def _with_files(
        self, request_id: str, work: Callable[[], T], then: Callable[[T], None]
    ) -> None:
        """Do something with files, then go on on the loop if somebody still waits."""

        def run() -> None:
            if request_id not in self._open:
                return
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - it is the answer to this one request
                self._on_loop(self._fail, request_id, error)
            else:
                self._on_loop(self._go_on, request_id, then, result)

        self._files.submit(run)

    def _in_engine(
        self, request_id: str, work: Callable[[EngineLike], T], then: Callable[[T], None]
    ) -> None:
        """Do something between two steps, then go on on the loop if somebody still waits."""

        def run(engine: EngineLike) -> None:
            if request_id not in self._open:
                return
            try:
                result = work(engine)
            except Exception as error:  # noqa: BLE001 - it is the answer to this one request
                self._on_loop(self._fail, request_id, error)
            else:
                self._on_loop(self._go_on, request_id, then, result)

        self._engine.call(run)

    def _go_on(self, request_id: str, then: Callable[[T], None], result: T) -> None:
        if request_id in self._open:
            then(result)

    def _on_loop(self, function: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: so has every request
            self._loop.call_soon_threadsafe(function, *arguments)


def _absolute(name: str) -> Path:
    path = Path(name)
    if not path.is_absolute() or "\0" in name:
        raise InvalidValueError(f"The name of a file to save in must be a full path, not {name!r}.")
    return path


def _info(saved: SavedState, num_cached: int) -> PrefixInfo:
    return PrefixInfo(
        path=str(saved.path),
        num_tokens=len(saved.header.tokens) // 4,
        num_cached_tokens=num_cached,
        size_bytes=saved.size_bytes,
        created=saved.header.created,
    )


def _pushed_out(num_tokens: int) -> WorkerBusyError:
    return WorkerBusyError(
        f"A prefix of {num_tokens:,} tokens was computed {_MOST_TRIES} times and pushed out of the"
        " cache each time, before it could be saved. Try again when fewer requests run."
    )


def _stopped(what: str) -> RequestCancelledError:
    return RequestCancelledError(f"The prefix was not {what}: it was stopped.")
