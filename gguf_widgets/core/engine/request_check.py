"""Whether a request can be carried out at all.

Promises: a request that passes can run to its end on this model; one that does not is refused with
the numbers. Leaves to others: carrying it out (`engine.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from gguf_widgets.core.engine.image_prompt import text_tokens
from gguf_widgets.core.engine.vision import Vision
from gguf_widgets.core.errors import (
    ContextOverflowError,
    InvalidValueError,
    UnsupportedByModelError,
)
from gguf_widgets.core.images import cannot_see
from gguf_widgets.core.types import GenerateRequest

__all__ = ["check_request", "check_tokens"]


def check_request(
    request: GenerateRequest, *, n_ctx: int, n_vocab: int, vision: Vision | None = None
) -> None:
    """Refuse what cannot run.

    Raises
    ------
    InvalidValueError
        For an empty prompt, an unknown token, a sampling setting out of range, or a schema that
        has not been turned into a grammar.
    ContextOverflowError
        For a prompt longer than the context; ``n_prompt``, ``n_ctx`` and ``excess`` are in its
        details.
    UnsupportedByModelError
        For an image where there is no projector.
    """
    request.sampling.check()
    if request.sampling.constrained and request.grammar is None:
        raise InvalidValueError(
            "The request has a schema or a grammar in its settings, but not what became of it"
            " (GenerateRequest.grammar): its reply would not follow it. Hand the checked grammar in"
            " as well."
        )
    tokens = request.prompt_tokens
    if not tokens:
        raise InvalidValueError("The prompt is empty: there is nothing to continue.")
    if request.images:
        _check_images(request, vision)
        check_tokens(text_tokens(tokens), n_vocab)
    else:
        check_tokens(tokens, n_vocab)
    biases = request.sampling.logit_bias
    check_tokens(list(biases), n_vocab)
    if sum(bias == float("-inf") for bias in biases.values()) == n_vocab:
        raise InvalidValueError("logit_bias forbids every token, so there is nothing to write.")
    if len(tokens) > n_ctx:
        excess = len(tokens) - n_ctx
        raise ContextOverflowError(
            f"The prompt is {len(tokens):,} tokens long and the context has room for {n_ctx:,}:"
            f" {excess:,} too many. Shorten the prompt, or load the model with a larger context"
            " (n_ctx).",
            n_prompt=len(tokens),
            n_ctx=n_ctx,
            excess=excess,
        )


def _check_images(request: GenerateRequest, vision: Vision | None) -> None:
    if vision is None:
        raise cannot_see()
    last = request.images[-1]
    if last.end == len(request.prompt_tokens) and (vision.n_pos > 1 or vision.max_whole):
        raise UnsupportedByModelError(
            "The prompt ends with an image, and this model has to be given some text behind it."
            " Its chat template leaves none; put your question behind the image.",
            problem="ends_with_image",
        )


def check_tokens(tokens: Sequence[int], n_vocab: int) -> None:
    """Raise `InvalidValueError` if one of these tokens does not exist."""
    for token in (min(tokens), max(tokens)) if tokens else ():
        if not 0 <= token < n_vocab:
            raise InvalidValueError(
                f"Token {token} does not exist; this model's tokens are 0 to {n_vocab - 1}.",
                token=token,
            )
