"""Texts to vectors, as a notebook asks for them.

Promises: one row for each text, in their order, however many there are: a long list is sent in
parts, a few of them ahead, so that the worker is never without work and no message grows large; an
error names the text by its index in the list; an interrupt, or an error in one part, takes the
others back. Leaves to others: the connection (`core.model`), computing (the worker).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from gguf_widgets.core.conversation_input import check_text
from gguf_widgets.core.errors import (
    InvalidValueError,
    ProtocolError,
    RequestCancelledError,
    from_wire,
)
from gguf_widgets.core.types import Failed, Pooling
from gguf_widgets.core.worker import protocol
from gguf_widgets.core.worker.client import WorkerClient

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EmbedCall"]

# A part is short, so that the parts of several clients take turns, and long enough to fill batches.
_PART_TEXTS = 128
_PART_CHARACTERS = 256 * 1024
_PARTS_AHEAD = 4

# A wait is cut into pieces of this length, so that an interrupt gets through on every system.
_SLICE_S = 0.5


class _Part:
    """A request under way."""

    def __init__(self, client: WorkerClient, make: Callable[[str], protocol.Embed]) -> None:
        self._client = client
        self._future: Future[protocol.Embeddings] = Future()
        self._request_id = client.submit(make, self)

    def deliver(self, message: Any) -> None:
        """Take the one answer; see `Sink.deliver`."""
        if isinstance(message, protocol.Embeddings):
            self._future.set_result(message)
        elif isinstance(message, Failed):
            self._future.set_exception(from_wire(message.error))
        else:  # taken back before it was prepared
            self._future.set_exception(RequestCancelledError("The request was taken back."))

    def wait(self) -> protocol.Embeddings:
        while True:
            try:
                return self._future.result(_SLICE_S)
            except TimeoutError:
                if self._future.done():
                    raise

    def take_back(self) -> None:
        if not self._future.done():
            self._client.abort(self._request_id)


class EmbedCall:
    """One call of `Model.embed`; to be run once.

    Parameters
    ----------
    texts : str or iterable of str
    pooling : str or None
    normalize : bool
    with_client : callable
        Calls its argument with a working connection and returns what that returns.

    Raises
    ------
    InvalidValueError
        For what is no text, or no pooling.
    """

    def __init__(
        self,
        texts: str | Iterable[str],
        *,
        pooling: str | None,
        normalize: bool,
        with_client: Callable[[Callable[[WorkerClient], _Part]], _Part],
    ) -> None:
        self._is_one = isinstance(texts, str)
        self._texts = _checked(texts)
        if pooling is not None and pooling not in list(Pooling):
            raise InvalidValueError(
                f"pooling is {pooling!r}; it can be {', '.join(repr(str(one)) for one in Pooling)},"
                " or None for the model's own.",
                value=str(pooling),
            )
        self._pooling = None if pooling is None else Pooling(pooling)
        self._normalize = bool(normalize)
        self._with_client = with_client
        self._under_way: deque[_Part] = deque()
        self._cancelled = False

    def run(self) -> NDArray[np.float32]:
        """Send everything, a few parts ahead, and wait for the vectors."""
        import numpy as np

        vectors: NDArray[np.float32] | None = None
        num_done = 0

        def take() -> None:
            nonlocal vectors, num_done
            answer = self._under_way[0].wait()
            self._under_way.popleft()
            if vectors is None:
                vectors = np.empty((len(self._texts), answer.n_embd), np.float32)
            rows = np.frombuffer(answer.vectors, "<f4").reshape(answer.num_texts, answer.n_embd)
            vectors[num_done : num_done + answer.num_texts] = rows
            num_done += answer.num_texts

        try:
            for start, texts in self._parts():
                self._under_way.append(self._send(start, texts))
                if self._cancelled:
                    raise RequestCancelledError("The request was taken back.")
                if len(self._under_way) == _PARTS_AHEAD:
                    take()
            while self._under_way:
                take()
        finally:
            self._take_back()
        if vectors is None or num_done != len(self._texts):
            raise ProtocolError(f"The worker answered with {num_done} of {len(self._texts)} rows.")
        if not self._is_one:
            return vectors
        row: NDArray[np.float32] = vectors[0]
        return row

    async def run_async(self) -> NDArray[np.float32]:
        """Do the same without blocking; cancelling the task takes the requests back."""
        try:
            return await asyncio.to_thread(self.run)
        except asyncio.CancelledError:
            self._cancelled = True
            self._take_back()
            raise

    # --- inside ---

    def _parts(self) -> Iterator[tuple[int, list[str]]]:
        """Cut the texts into parts, each with the index of its first; no texts are one part."""
        start = 0
        while start < len(self._texts) or not start:
            end, characters = start, 0
            while end < min(start + _PART_TEXTS, len(self._texts)):
                characters += len(self._texts[end])
                if characters > _PART_CHARACTERS and end > start:
                    break
                end += 1
            yield start, self._texts[start:end]
            start = end
            if not end:
                return

    def _send(self, start: int, texts: list[str]) -> _Part:
        def make(request_id: str) -> protocol.Embed:
            return protocol.Embed(
                request_id=request_id,
                texts=texts,
                pooling=self._pooling,
                normalize=self._normalize,
                first_index=start,
            )

        return self._with_client(lambda client: _Part(client, make))

    def _take_back(self) -> None:
        for part in list(self._under_way):
            part.take_back()


def _checked(texts: Any) -> list[str]:
    if isinstance(texts, str):
        texts = [texts]
    elif isinstance(texts, bytes | Mapping) or not isinstance(texts, Iterable):
        raise InvalidValueError(
            f"Texts are a list of str, or one str; this is a {type(texts).__name__}."
        )
    result = list(texts)
    for index, text in enumerate(result):
        check_text(text, f"The text with index {index}")
    return result
