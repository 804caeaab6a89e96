"""The open requests of a worker, from the message to the terminal event.

Promises: every request is answered exactly once, whatever happens to it: an error while it is
prepared, an abort before it reached the engine, a client that goes away, the worker's end.
Preparing (templates, tokens) runs in a few threads of its own, so that a slow template stops
neither the socket nor the engine. Leaves to others: how much may be open (`admission`),
generating (`engine_thread`), sending (`connection`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil

from gguf_widgets.core.engine.embedding import EmbedRequest
from gguf_widgets.core.engine.scoring import Answer, ScoreRows
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    InvalidValueError,
    to_wire,
)
from gguf_widgets.core.types import (
    EngineStats,
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    GenerationEvent,
    ImageProgress,
    PrefillProgress,
    Reply,
    TextDelta,
    Timings,
    Usage,
)
from gguf_widgets.core.worker import protocol, score_messages
from gguf_widgets.core.worker.admission import Admission
from gguf_widgets.core.worker.connection import ClientConnection
from gguf_widgets.core.worker.constraint import grammar_for
from gguf_widgets.core.worker.engine_thread import EngineThread
from gguf_widgets.core.worker.loading import LoadedModel, embeddings
from gguf_widgets.core.worker.prefixes import PrefixRequests, Save
from gguf_widgets.core.worker.prompts import check_can_be_shown
from gguf_widgets.core.worker.scores import PreparedScore, prepare_score, vocabulary_facts

__all__ = ["Requests"]

_log = logging.getLogger(__name__)

_NUM_PREPARING_THREADS = 4


class _Open:
    """One open request."""

    __slots__ = (
        "aborted",
        "begin",
        "client_id",
        "connection",
        "in_engine",
        "light",
        "num_bytes",
        "pieces",
        "seed",
    )

    def __init__(self, connection: ClientConnection, *, seed: int | None, light: bool) -> None:
        self.connection = connection
        self.client_id = connection.client_id or ""
        self.num_bytes = connection.message_bytes
        self.light = light
        self.in_engine = False
        self.aborted = False
        self.pieces = True
        self.begin: tuple[str, list[int]] = "", []
        self.seed = seed


class Requests:
    """All open requests; every public method is called on the server's loop.

    Parameters
    ----------
    engine : EngineThread
    model : LoadedModel
    """

    def __init__(self, engine: EngineThread, model: LoadedModel) -> None:
        self._engine = engine
        self._model = model
        self._open: dict[str, _Open] = {}
        self._admission = Admission()
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(_NUM_PREPARING_THREADS, "gguf-widgets-prepare")
        self._prefixes = PrefixRequests(engine, model, self._open, self._answer, self._fail)

    def __len__(self) -> int:
        return len(self._open)

    def num_open(self, client_id: str | None = None) -> int:
        """Return how many requests a client, or all of them, have open; `stats` does not count."""
        return self._admission.num_open(client_id)

    # --- what clients ask ---

    def generate(self, connection: ClientConnection, message: protocol.Generate) -> None:
        """Prepare a prompt and hand it to the engine."""
        prompt, sampling = message.prompt, message.sampling

        def prepare() -> GenerateRequest:
            prompt.check()
            sampling.check()
            made = self._model.prompts.make(prompt)
            return GenerateRequest(
                request_id=message.request_id,
                client_id=connection.client_id or "",
                prompt_tokens=made.tokens,
                images=made.images,
                sampling=self._model.prompts.sampling_for(prompt, sampling),
                priority=message.priority,
                grammar=grammar_for(sampling),
                begin=made.begin,
                num_begin_tokens=made.num_begin_tokens,
                constrain_begin=prompt.constrain_begin,
            )

        self._start(connection, message.request_id, prepare, self._to_engine, seed=sampling.seed)
        request = self._open.get(message.request_id)
        if request is not None:
            request.pieces = message.pieces
            request.begin = prompt.begin_text, prompt.begin_tokens

    def tokenize(self, connection: ClientConnection, message: protocol.Tokenize) -> None:
        """Answer with tokens."""

        def work() -> protocol.Tokens:
            tokens = self._model.engine.tokenize(
                message.text, add_special=message.add_special, parse_special=message.parse_special
            )
            return protocol.Tokens(request_id=message.request_id, tokens=tokens)

        self._start(connection, message.request_id, work, self._answer)

    def detokenize(self, connection: ClientConnection, message: protocol.Detokenize) -> None:
        """Answer with text."""

        def work() -> protocol.Text:
            text = self._model.detokenize(message.tokens)
            return protocol.Text(request_id=message.request_id, text=text)

        self._start(connection, message.request_id, work, self._answer)

    def render(self, connection: ClientConnection, message: protocol.Render) -> None:
        """Answer with the text a prompt becomes, and its number of tokens."""

        def work() -> protocol.Rendered:
            message.prompt.check()
            made = self._model.prompts.make(message.prompt)
            text = made.text if message.with_text else ""
            if text:
                check_can_be_shown(made, by_tokens=False)
            return protocol.Rendered(
                request_id=message.request_id, text=text, num_tokens=len(made.tokens)
            )

        self._start(connection, message.request_id, work, self._answer)

    def show_prompt(self, connection: ClientConnection, message: protocol.ShowPrompt) -> None:
        """Answer with the tokens a prompt becomes, and what each of them says."""

        def work() -> protocol.PromptShown:
            message.prompt.check()
            tokens = self._model.prompts.show(message.prompt)
            return protocol.PromptShown(request_id=message.request_id, tokens=tokens)

        self._start(connection, message.request_id, work, self._answer)

    def template_facts(
        self, connection: ClientConnection, message: protocol.GetTemplateFacts
    ) -> None:
        """Answer with what a chat template can do."""

        def work() -> protocol.Facts:
            facts = self._model.prompts.facts(message.chat_template)
            return protocol.Facts(request_id=message.request_id, facts=facts)

        self._start(connection, message.request_id, work, self._answer)

    def embed(self, connection: ClientConnection, message: protocol.Embed) -> None:
        """Prepare texts and hand them to the engine; answer with their vectors."""
        request_id = message.request_id

        def prepare() -> EmbedRequest:
            texts = self._model.embed_tokens(message)

            def answer(result: Any) -> None:
                if isinstance(result, GgufWidgetsError):
                    self.deliver([Failed(request_id=request_id, error=to_wire(result))])
                else:
                    self._answer(request_id, embeddings(request_id, texts, result))

            def deliver(result: Any) -> None:  # on the engine's thread
                with contextlib.suppress(RuntimeError):  # the loop has ended: so has every request
                    self._loop.call_soon_threadsafe(answer, result)

            return EmbedRequest(
                request_id=request_id,
                client_id=connection.client_id or "",
                texts=texts,
                deliver=deliver,
                pooling=message.pooling,
                normalize=message.normalize,
                first_index=message.first_index,
            )

        def hand_over(request_id: str, request: EmbedRequest) -> None:
            self._open[request_id].in_engine = True
            self._engine.embed(request)

        self._start(connection, request_id, prepare, hand_over)

    def score(self, connection: ClientConnection, message: score_messages.Score) -> None:
        """Prepare a text and hand it to the engine; answer with its scores, piece by piece."""
        request_id = message.request_id

        def deliver(answer: Answer) -> None:  # on the engine's thread
            with contextlib.suppress(RuntimeError):  # the loop has ended: so has every request
                self._loop.call_soon_threadsafe(take, answer)

        def take(answer: Answer) -> None:
            request = self._open.get(request_id)
            if request is None or prepared is None:
                return
            if isinstance(answer, GgufWidgetsError):
                self._fail(request_id, answer)
            elif isinstance(answer, ScoreRows):
                request.connection.send(prepared.piece(answer))
            else:
                self._answer(request_id, prepared.end(answer.num_scored))

        def prepare() -> PreparedScore:
            return prepare_score(self._model, message, connection.client_id or "", deliver)

        prepared: PreparedScore | None = None

        def hand_over(request_id: str, result: PreparedScore) -> None:
            nonlocal prepared
            prepared = result
            self._open[request_id].in_engine = True
            connection.send(result.begun)
            self._engine.score(result.request)

        self._start(connection, request_id, prepare, hand_over)

    def score_taken(self, connection: ClientConnection, message: score_messages.ScoreTaken) -> None:
        """Let a request for scores go on; an id that is not open is ignored."""
        request = self._open.get(message.request_id)
        if request is not None and request.connection is connection and request.in_engine:
            self._engine.score_taken(message.request_id, message.num_pieces)

    def vocabulary(
        self, connection: ClientConnection, message: score_messages.GetVocabulary
    ) -> None:
        """Answer with what tells the vocabulary from others."""

        def work() -> score_messages.VocabularyTold:
            facts = vocabulary_facts(self._model)
            return score_messages.VocabularyTold(request_id=message.request_id, facts=facts)

        self._start(connection, message.request_id, work, self._answer)

    def save_prefix(self, connection: ClientConnection, message: protocol.SavePrefix) -> None:
        """Compute the beginning of a prompt, if need be, and write it into a file."""

        def prepare() -> Save:
            return self._prefixes.prepare(message, connection.client_id or "")

        self._start(connection, message.request_id, prepare, self._prefixes.save)

    def restore_prefix(self, connection: ClientConnection, message: protocol.RestorePrefix) -> None:
        """Take such a file back into the cache."""
        if self._admit(connection, message.request_id) is not None:
            self._prefixes.restore(message)

    def stats(
        self,
        connection: ClientConnection,
        message: protocol.GetStats,
        num_clients: int,
        started: float,
    ) -> None:
        """Answer with the figures of this moment; the engine's come between two of its steps."""
        request_id = message.request_id
        if not self._admit(connection, request_id, light=True):
            return

        def answer(engine: EngineStats) -> None:
            if request_id not in self._open:
                return  # its client has gone
            self._answer(
                request_id,
                protocol.Stats(
                    request_id=request_id,
                    engine=engine,
                    num_clients=num_clients,
                    num_requests=len(self._open) - 1,
                    uptime_s=time.monotonic() - started,
                    rss_bytes=psutil.Process().memory_info().rss,
                ),
            )

        def deliver(engine: EngineStats) -> None:  # on the engine's thread
            with contextlib.suppress(RuntimeError):  # the loop has ended: so has every request
                self._loop.call_soon_threadsafe(answer, engine)

        self._engine.stats(deliver)

    def abort(self, connection: ClientConnection, request_id: str) -> None:
        """End a request of this client; an id that is not open is ignored."""
        request = self._open.get(request_id)
        if request is None or request.connection is not connection:
            return
        if request.in_engine:
            request.aborted = True
            self._engine.abort(request_id)
        elif not request.aborted:
            # Still being prepared: answer now, and let what is prepared be thrown away.
            request.aborted = True
            self.deliver(self._aborted_early(request_id, request))

    # --- what happens to them ---

    def deliver(self, events: list[GenerationEvent]) -> None:
        """Send events to the clients they belong to."""
        for event in events:
            if isinstance(event, PrefillProgress | ImageProgress | TextDelta):
                request = self._open.get(event.request_id)
                if request is not None and not request.pieces:
                    continue
            else:
                request = self._remove(event.request_id)
            if request is not None:
                request.connection.send(event)

    def client_gone(self, connection: ClientConnection) -> None:
        """Take back everything this client had asked for."""
        for request_id, request in list(self._open.items()):
            if request.connection is connection:
                if request.in_engine:
                    request.aborted = True
                    self._engine.abort(request_id)
                else:
                    request.aborted = True
                    self._remove(request_id)

    def fail_all(self, error: GgufWidgetsError) -> None:
        """Answer everything that is open with an error."""
        wire = to_wire(error)
        self.deliver([Failed(request_id=request_id, error=wire) for request_id in list(self._open)])

    def close(self) -> None:
        """Wait for the preparing threads, so that none of them uses an engine that is closed."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._prefixes.close()
        self._model.prompts.close()

    # --- inside ---

    def _start(
        self,
        connection: ClientConnection,
        request_id: str,
        work: Callable[[], Any],
        then: Callable[[str, Any], None],
        *,
        seed: int | None = None,
    ) -> None:
        """Run `work` in a preparing thread and `then`, with its result, on the loop."""
        request = self._admit(connection, request_id, seed=seed)
        if request is None:
            return

        def done(result: Any, error: BaseException | None) -> None:
            if request.aborted or request_id not in self._open:
                return
            if error is not None:
                self._fail(request_id, error)
                return
            then(request_id, result)

        def run() -> None:
            result, failure = None, None
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - it is the request's answer
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop has ended: so has every request
                self._loop.call_soon_threadsafe(done, result, failure)

        self._pool.submit(run)

    def _admit(
        self,
        connection: ClientConnection,
        request_id: str,
        *,
        seed: int | None = None,
        light: bool = False,
    ) -> _Open | None:
        """Open a request, or answer why it cannot be and return None."""
        request = _Open(connection, seed=seed, light=light)
        try:
            self._check_new(connection, request_id)
            self._admission.admit(request.client_id, request.num_bytes, light=light)
        except GgufWidgetsError as error:
            connection.send(Failed(request_id=request_id, error=to_wire(error)))
            return None
        self._open[request_id] = request
        return request

    def _remove(self, request_id: str) -> _Open | None:
        """Close a request: the one place where an open one ends."""
        request = self._open.pop(request_id, None)
        if request is not None:
            self._admission.release(request.client_id, request.num_bytes, light=request.light)
        return request

    def _check_new(self, connection: ClientConnection, request_id: str) -> None:
        if not request_id.startswith(f"{connection.client_id}-") or len(request_id) > 64:
            raise InvalidValueError(
                f"A request id begins with the client's own id and a dash "
                f"({connection.client_id}-) and has at most 64 characters; this one is "
                f"{request_id[:80]!r}."
            )
        if request_id in self._open:
            raise InvalidValueError(f"The request id {request_id!r} is in use already.")

    def _to_engine(self, request_id: str, request: GenerateRequest) -> None:
        self._open[request_id].in_engine = True
        self._engine.add_request(request)

    def _fail(self, request_id: str, error: BaseException) -> None:
        if not isinstance(error, GgufWidgetsError):
            _log.error("request %s failed", request_id, exc_info=error)
        self.deliver([Failed(request_id=request_id, error=to_wire(error))])

    def _aborted_early(self, request_id: str, request: _Open) -> list[GenerationEvent]:
        """Return the end of a request that was stopped before the engine had it."""
        text = self._model.prompts.begin_text(*request.begin)
        reply = Reply(
            text=text,
            finish_reason=FinishReason.ABORTED,
            usage=Usage(num_prompt_tokens=0),
            timings=Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0, ttft_s=None, total_s=0.0),
            seed=request.seed or 0,
        )
        begun = TextDelta(request_id=request_id, text=text, num_completion_tokens=0)
        return [*([begun] if text else []), Finished(request_id=request_id, reply=reply)]

    def _answer(self, request_id: str, message: Any) -> None:
        request = self._remove(request_id)
        if request is not None:
            request.connection.send(message)
