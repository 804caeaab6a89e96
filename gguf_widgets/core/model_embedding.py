"""Texts to vectors: `Model.embed` and `Model.aembed`.

Promises: what `EmbedCall` promises. Leaves to others: sending and waiting (`embedding`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from gguf_widgets.core.embedding import EmbedCall
from gguf_widgets.core.worker.client import WorkerClient

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EmbeddingMethods"]

T = TypeVar("T")


class EmbeddingMethods:
    """What a `Model` can do with vectors."""

    def embed(
        self, texts: str | Iterable[str], *, pooling: str | None = None, normalize: bool = True
    ) -> NDArray[np.float32]:
        """Turn texts into vectors: texts that mean alike get vectors that point alike.

        Parameters
        ----------
        texts : str or iterable of str
            Any number of texts. Nothing is added to them: many embedding models were trained with
            a word before each text, such as ``"query: "`` and ``"passage: "``, which differs from
            model to model; its description says which, and you put it there. The texts of control
            tokens are read as plain text.
        pooling : {"mean", "last", "cls"}, optional
            How one vector is made from those of a text's tokens: their mean, the last token's, or
            the first's. By default the model's own (its file says); "mean" for a model that was not
            made for embedding. A model that reads from left to right has no use for "cls".
        normalize : bool, default True
            Give each vector the length 1, so that ``a @ b`` is the cosine of their angle.

        Returns
        -------
        ndarray of float32
            Of shape (number of texts, n_embd); for a str, of shape (n_embd,). For an empty list,
            (0, n_embd).

        Raises
        ------
        InvalidValueError
            For an empty text, something that is no text, or a pooling that does not go with the
            model; ``details["index"]`` says which text.
        ContextOverflowError
            For a text longer than the context; nothing is ever cut. ``details`` has its ``index``,
            ``n_tokens``, and the limit, ``n_ctx``.
        NotEnoughMemoryError
            If a very long text needs more memory than is free.
        UnsupportedByModelError
            In demo mode.
        WorkerDiedError
            If the process died meanwhile; the next call starts it again.

        Notes
        -----
        What is computed together changes a vector only by rounding. Chats go on meanwhile, at the
        pace they have beside a long prompt.

        Examples
        --------
        >>> import gguf_widgets as gw
        >>> model = gw.load("bge-small-en-v1.5-q8_0")  # doctest: +SKIP
        >>> vectors = model.embed(["How do I reset it?", "Hold the button."])  # doctest: +SKIP
        >>> vectors @ vectors.T  # doctest: +SKIP
        """
        return self._embed_call(texts, pooling, normalize=normalize).run()

    async def aembed(
        self, texts: str | Iterable[str], *, pooling: str | None = None, normalize: bool = True
    ) -> NDArray[np.float32]:
        """Do what `embed` does without blocking; cancelling the task takes the request back."""
        return await self._embed_call(texts, pooling, normalize=normalize).run_async()

    def _embed_call(
        self, texts: str | Iterable[str], pooling: str | None, *, normalize: bool
    ) -> EmbedCall:
        return EmbedCall(texts, pooling=pooling, normalize=normalize, with_client=self._with_client)

    def _with_client(self, use: Callable[[WorkerClient], T]) -> T:
        """Call `use` with a working connection; `Model` has it."""
        raise NotImplementedError
