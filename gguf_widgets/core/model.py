"""A loaded model, as a notebook holds it.

Promises: each call is one request to the worker that holds the model; it returns a `Reply`, a
stream of it, or raises one error of the tree. If the worker has died, the next call starts it
again; the lost request itself is not repeated. An interrupt takes the request back. Leaves to
others: which file this is and whether it fits (`manager`), the process (`worker`).
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from gguf_widgets.core import request_events
from gguf_widgets.core.conversation_input import Conversation, check_text
from gguf_widgets.core.errors import InvalidValueError, WorkerError
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.model_batch import BatchMethods
from gguf_widgets.core.model_embedding import EmbeddingMethods
from gguf_widgets.core.model_prefix import PrefixMethods
from gguf_widgets.core.model_prompt import PromptMethods
from gguf_widgets.core.model_score import ScoreMethods
from gguf_widgets.core.model_submit import OnEnd, Submitted
from gguf_widgets.core.prompt_input import to_extras
from gguf_widgets.core.text_stream import AsyncTextStream, TextStream
from gguf_widgets.core.types import LoadSettings, ModelInfo, Priority, Reply, SamplingSettings
from gguf_widgets.core.worker import protocol
from gguf_widgets.core.worker.client import Progress, WorkerClient
from gguf_widgets.core.worker.link import WorkerLink
from gguf_widgets.core.worker.protocol import Prompt

__all__ = ["AsyncTextStream", "Model", "TextStream"]

T = TypeVar("T")

# Tokenizing and rendering take milliseconds; a template has its own, shorter limit in the worker.
_CALL_TIMEOUT_S = 120.0

_MAX_CHOICES = 256


class Model(BatchMethods, EmbeddingMethods, PrefixMethods, PromptMethods, ScoreMethods):
    """A model that answers; made by `gguf_widgets.load` or `ModelManager.load`.

    The sampling keywords (``temperature``, ``max_tokens``, ``seed``, ``stop``, ``schema``, ...) are
    the fields of `SamplingSettings`; an unknown one is refused. Besides them each of these calls
    takes:

    begin_with : str or list of int
        What the reply begins with, and goes on from: words (plain text, never control tokens), or
        the tokens of an earlier reply, which is then continued exactly. The reply's text holds
        them; its `logprobs` and completion tokens are what was generated, and only there stop
        strings are looked for. A schema or grammar covers them, too (``constrain_begin=False``: it
        is about what is generated). Where the template opens a block of thoughts
        (`template_facts`), they are the beginning of the thoughts.
    tools : list of dict
        Schemas of functions, ``{"type": "function", "function": {...}}``, for the chat template.
    template_variables : dict
        More of what the chat template may ask for: ``{"enable_thinking": False}``.
    priority : "batch"
        Let everybody go first who is waiting for an answer.

    Parameters
    ----------
    link : WorkerLink
    name : str
        What the library calls it.
    path : Path
    chat_template : str or None
        Replaces the model's own for this object.
    on_unload : callable
        Called once with this object when it is unloaded.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> with gw.load("demo") as model:  # doctest: +SKIP
    ...     print(model.chat("Hello", temperature=0))
    """

    def __init__(
        self,
        link: WorkerLink,
        *,
        name: str,
        path: Path,
        chat_template: str | None = None,
        on_unload: Callable[[WorkerLink], bool],
    ) -> None:
        self._link = link
        self._name = name
        self._path = path
        self._chat_template = chat_template
        self._on_unload = on_unload
        self._notes: list[str] = []

    # --- what it is ---

    @property
    def name(self) -> str:
        """What the library calls this model."""
        return self._name

    @property
    def path(self) -> Path:
        """The model file."""
        return self._path

    @property
    def info(self) -> ModelInfo:
        """What is known of the model; `info.backend` is "scripted" in demo mode."""
        return self._link.info

    @property
    def settings(self) -> LoadSettings:
        """The effective settings; `chat_template` is None for the model's own."""
        return self._link.ready.settings.replace(chat_template=self._chat_template)

    @property
    def sees_images(self) -> bool:
        """Whether images can be sent: it was loaded with an image companion (mmproj)."""
        return bool(self._link.ready.settings.mmproj)

    @property
    def mmproj(self) -> Path | None:
        """The image companion it is loaded with."""
        path = self._link.ready.settings.mmproj
        return Path(path) if path else None

    @property
    def load_notes(self) -> list[str]:
        """What you should know of this model: full sentences for the screen, often none."""
        facts = self._facts
        other = facts[1].notes if facts is not None and facts[0] is not None else ()
        return list(dict.fromkeys([*self._notes, *self._link.ready.notes, *other]))

    def add_notes(self, notes: Iterable[str]) -> None:
        """Add what whoever brought the file has to say; none is repeated."""
        self._notes += [note for note in dict.fromkeys(notes) if note not in self._notes]

    @property
    def loaded(self) -> bool:
        """Whether it can be used: True until `unload`, also while its worker must be restarted."""
        return not self._link.closed

    @property
    def pid(self) -> int | None:
        """The process that runs the model, or None while there is none."""
        return self._link.pid

    # --- text from a conversation or a raw prompt ---

    def chat(self, conversation: Conversation, **sampling: Any) -> Reply:
        """Answer a conversation and return the whole reply.

        Parameters
        ----------
        conversation : str or list of messages
            A str is one user message. The content of a message is a text, or a list of texts and
            images (`gguf_widgets.image`). An answer may have ``tool_calls``, and the role "tool"
            says what came of them; see `core.conversation_input`.
        **sampling
            Fields of `SamplingSettings`.

        Returns
        -------
        Reply

        Raises
        ------
        InvalidValueError
            For a setting or a message that is not allowed.
        ContextOverflowError
            If the conversation does not fit the context.
        ChatTemplateError
            If the model's chat template fails; `use_chat_template` offers another.
        UnsupportedSchemaError, GrammarError
            For a `schema` or `grammar` that cannot be followed.
        UnsupportedByModelError
            If the model only turns texts into vectors, or is sent an image and cannot see.
        ImageError
            For an image that cannot be read.
        WorkerBusyError
            If too many requests wait already; the limits are in its details.
        WorkerDiedError
            If the process died meanwhile; the next call starts it again.
        ModelUnloadedError
            After `unload`.
        """
        return self.stream(conversation, **sampling).result()

    def stream(self, conversation: Conversation, /, **sampling: Any) -> TextStream:
        """Answer a conversation piece by piece; errors as for `chat`.

        Returns
        -------
        TextStream
            Iterate over it; ``stop()`` ends it early.
        """
        return self._open(*self._chat_request(conversation, sampling))

    def choices(self, conversation: Conversation, n: int, **sampling: Any) -> list[Reply]:
        """Answer a conversation `n` times, side by side; the prompt is computed once.

        Parameters
        ----------
        conversation : str or list of messages
        n : int
            1 to 256.
        **sampling
            As for `chat`. The choices take the seeds ``seed``, ``seed + 1``, ...; each reply says
            which one was its own. With temperature 0 they are all alike.

        Returns
        -------
        list of Reply
            In the order of the seeds. Errors as for `chat`; if one choice fails, the others are
            taken back.
        """
        if not 1 <= n <= _MAX_CHOICES:
            raise InvalidValueError(f"n is {n}; it must be from 1 to {_MAX_CHOICES}.", value=n)
        prompt, settings, priority = self._chat_request(conversation, sampling)
        streams: list[TextStream] = []
        try:
            for number in range(n):
                # 2**32 - 1 would mean "draw one".
                seed = None if settings.seed is None else (settings.seed + number) % (2**32 - 1)
                streams.append(self._open(prompt, settings.replace(seed=seed), priority))
            return [stream.result() for stream in streams]
        finally:
            for stream in streams:
                stream.close()

    def complete(self, text: str, **sampling: Any) -> Reply:
        """Continue a raw text, without a chat template; errors as for `chat`."""
        return self.stream_completion(text, **sampling).result()

    def stream_completion(self, text: str, **sampling: Any) -> TextStream:
        """Continue a raw text piece by piece, without a chat template."""
        return self._open(*_raw_request(text, sampling))

    async def achat(self, conversation: Conversation, **sampling: Any) -> Reply:
        """Do what `chat` does without blocking; cancelling the task takes the request back."""
        return await self.astream(conversation, **sampling).result()

    def astream(self, conversation: Conversation, **sampling: Any) -> AsyncTextStream:
        """Do what `stream` does, for ``async for``."""
        request = self._chat_request(conversation, sampling)
        return AsyncTextStream(lambda: self._open(*request))

    async def acomplete(self, text: str, **sampling: Any) -> Reply:
        """Do what `complete` does without blocking."""
        request = _raw_request(text, sampling)
        return await AsyncTextStream(lambda: self._open(*request)).result()

    def submit(self, conversation: Conversation, on_end: OnEnd, **sampling: Any) -> Submitted:
        """Ask without waiting; errors in the question as for `chat`.

        Parameters
        ----------
        conversation : str or list of messages
        on_end : callable
            Called once, with the `Reply` or the error, in a thread of the connection: it must
            return at once. What arrives on the way is not told.
        **sampling
            Fields of `SamplingSettings`.
        """
        return self._submit(self._chat_request(conversation, sampling), on_end)

    def submit_tokens(self, tokens: Sequence[int], on_end: OnEnd, **sampling: Any) -> Submitted:
        """Do what `submit` does for a prompt that is these tokens, as they are."""
        numbers = list(tokens)
        if not numbers or not all(type(number) is int for number in numbers):
            raise InvalidValueError("The tokens of a prompt are whole numbers, one at least.")
        return self._submit(_Request(Prompt(tokens=numbers), *_settings(dict(sampling))), on_end)

    def request(
        self, conversation: Conversation, **sampling: Any
    ) -> tuple[Prompt, SamplingSettings, Priority]:
        """Return what `chat` would send for the same arguments, for `submit_prompt`."""
        return self._chat_request(conversation, sampling)

    def submit_prompt(
        self,
        prompt: Prompt,
        on_end: OnEnd,
        sampling: SamplingSettings,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Submitted:
        """Do what `submit` does for a prompt that is made already, such as one that was recorded.

        Raises
        ------
        InvalidValueError
            The prompt or a setting is contradictory or out of range.
        """
        prompt.check()
        sampling.check()
        return self._submit(_Request(prompt, sampling, priority), on_end)

    def _submit(self, request: _Request, on_end: OnEnd) -> Submitted:
        prompt, settings, priority = request

        def make(request_id: str) -> protocol.Generate:
            return protocol.Generate(
                request_id=request_id,
                prompt=prompt,
                sampling=settings,
                priority=priority,
                pieces=False,
            )

        with request_events.watched(self, prompt, settings, priority) as tap:
            return self._with_client(lambda client: Submitted(client, make, on_end, tap))

    # --- the worker ---

    def stats(self) -> protocol.Stats:
        """Return what the worker is doing: `.engine` (`EngineStats`), clients, memory, uptime."""
        answer = self._ask(lambda request_id: protocol.GetStats(request_id=request_id))
        if not isinstance(answer, protocol.Stats):
            raise WorkerError(f"The worker answered with a {type(answer).__name__}.")
        return answer

    def ensure_running(self, on_progress: Progress | None = None) -> None:
        """Start the worker again if it has gone; the next request would do it as well."""
        self._link.client(on_progress)

    def unload(self) -> bool:
        """Give the model up in this process.

        If no other notebook uses it, its worker ends and the memory is free when this returns.

        Returns
        -------
        bool
            Whether the worker has ended.
        """
        return self._on_unload(self._link)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unload()

    def __repr__(self) -> str:
        info, settings = self.info, self.settings
        state = f"n_ctx={settings.n_ctx}" if self.loaded else "unloaded"
        if info.backend == "scripted":
            state += ", demo mode"
        return f"<Model {self.name!r}: {info.architecture} {info.quantization}, {state}>"

    def _repr_html_(self) -> str:
        info = self.info
        facts = [
            ("Architecture", info.architecture),
            ("Size", format_bytes(info.size_bytes)),
            ("Precision", info.quantization),
            ("Context", f"{self.settings.n_ctx:,} tokens"),
            *_side_by_side(self.settings),
            *([("Image companion", self.mmproj.name)] if self.mmproj is not None else []),
            ("State", "loaded" if self.loaded else "unloaded"),
        ]
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(label)}</th>"
            f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
            for label, value in facts
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.load_notes)
        return f"<div><strong>{html.escape(self.name)}</strong><table>{rows}</table>{notes}</div>"

    # --- inside ---

    def _chat_request(self, conversation: Conversation, sampling: dict[str, Any]) -> _Request:
        keywords = dict(sampling)
        extras = to_extras(keywords)
        prompt = self._prompt(conversation, self._chat_template, extras)
        return _Request(prompt, *_settings(keywords))

    def _open(self, prompt: Prompt, sampling: SamplingSettings, priority: Priority) -> TextStream:
        def make(request_id: str) -> protocol.Generate:
            return protocol.Generate(
                request_id=request_id, prompt=prompt, sampling=sampling, priority=priority
            )

        with request_events.watched(self, prompt, sampling, priority) as tap:
            return self._with_client(lambda client: TextStream(client, make, tap))

    def _ask(self, make: Callable[[str], Any]) -> Any:
        future: Future[Any] = self._with_client(lambda client: client.call(make))
        try:
            return future.result(_CALL_TIMEOUT_S)
        except TimeoutError as error:
            raise WorkerError(
                f"The worker has not answered for {_CALL_TIMEOUT_S:.0f} seconds."
            ) from error

    def _with_client(self, use: Callable[[WorkerClient], T]) -> T:
        """Call `use` with a working connection; if it ended just now, once more with a new one.

        Only sending is tried again. A request that was sent is never sent twice.
        """
        client = self._link.client()
        try:
            return use(client)
        except WorkerError:
            if client.alive:
                raise
        return use(self._link.client())


def _side_by_side(settings: LoadSettings) -> list[tuple[str, str]]:
    """Say how much is computed at once; nothing of a model that writes nothing."""
    if settings.n_seq_max is None or settings.n_batch is None:
        return []
    caches = "" if settings.kv_unified in (None, True) else ", each with its own KV cache"
    return [
        ("Replies at once", f"up to {settings.n_seq_max} (n_seq_max){caches}"),
        ("Tokens in a step", f"up to {settings.n_batch:,} (n_batch)"),
    ]


class _Request(NamedTuple):
    prompt: Prompt
    sampling: SamplingSettings
    priority: Priority


def _raw_request(text: str, sampling: dict[str, Any]) -> _Request:
    check_text(text, "The text")
    if not text:
        raise InvalidValueError("The text is empty: there is nothing to continue.")
    keywords = dict(sampling)
    extras = to_extras(keywords)
    if extras.tools or extras.variables:
        raise InvalidValueError(
            "Tools and template_variables are for a chat template, and a raw text has none: use"
            " chat or stream, or write them into the text."
        )
    return _Request(Prompt(text=text, **extras._asdict()), *_settings(keywords))


def _settings(keywords: dict[str, Any]) -> tuple[SamplingSettings, Priority]:
    """Tell the sampling settings from the priority; the keywords are used up."""
    wanted = keywords.pop("priority", Priority.INTERACTIVE)
    if wanted not in list(Priority):
        raise InvalidValueError(
            f"priority is {wanted!r}; it can be {' or '.join(map(repr, map(str, Priority)))}.",
            value=str(wanted),
        )
    return SamplingSettings.from_keywords(**keywords), Priority(wanted)
