"""From a rendered conversation with images to prompt tokens, and where the images stand in them.

An image's tokens have no numbers of a vocabulary. Each part of an image stands in the prompt as so
many times one number below 0, made from a digest of the image's bytes: so wherever tokens are
compared (prefixes, caches, who waits for whom) the same image is the same, and another one never
is. Only where tokens go to the model these are left out, and the image's vectors go instead.

Promises: images cost tokens, and are counted, like text; BOS exactly once. Leaves to others: which
characters of the rendered text stand for images (`chat_template.py`), vectors (`image_reader.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from gguf_widgets.core.engine.backend import Backend
from gguf_widgets.core.engine.prompt import PromptPart
from gguf_widgets.core.images import IMAGE_MARK, Image, cannot_see
from gguf_widgets.core.types import ImageSpan

__all__ = ["MARK", "PromptTokens", "image_token", "text_tokens", "tokenize_with_images"]

MARK = IMAGE_MARK


class PromptTokens(NamedTuple):
    """The tokens of a prompt and the images among them."""

    tokens: list[int]
    images: tuple[ImageSpan, ...] = ()


def image_token(image: Image, part: int, num_tokens: int) -> int:
    """Return the number below -1 that stands for one part of one image."""
    digest = hashlib.sha256(f"{image.digest} {part} {num_tokens}".encode()).digest()
    return -2 - int.from_bytes(digest, "little")


def text_tokens(tokens: Iterable[int]) -> list[int]:
    """Return the tokens that are some of a vocabulary: those of images are left out."""
    return [token for token in tokens if token >= 0]


def tokenize_with_images(backend: Backend, parts: Iterable[PromptPart | Image]) -> PromptTokens:
    """Cut the parts into the tokens of one prompt, beginning with BOS if the model wants that.

    Raises
    ------
    UnsupportedByModelError
        If there is an image, and no projector.
    ImageError
        If the projector cannot take an image.
    """
    vocabulary = backend.vocabulary
    tokens: list[int] = []
    spans: list[ImageSpan] = []
    number = 0
    for part in parts:
        if isinstance(part, Image):
            _add_image(backend, part, number, tokens, spans)
            number += 1
        else:
            tokens += backend.tokenize(part.text, parse_special=part.parse_special)
    if vocabulary.add_bos and vocabulary.bos >= 0 and tokens[:1] != [vocabulary.bos]:
        tokens.insert(0, vocabulary.bos)
        spans = [msgspec.structs.replace(span, start=span.start + 1) for span in spans]
    return PromptTokens(tokens, tuple(spans))


def _add_image(
    backend: Backend, image: Image, number: int, tokens: list[int], spans: list[ImageSpan]
) -> None:
    if backend.vision is None:
        raise cannot_see()
    part = 0
    for piece in backend.vision.layout(image):
        if isinstance(piece, list):
            tokens += piece
            continue
        spans.append(
            ImageSpan(
                start=len(tokens),
                num_tokens=piece.num_tokens,
                num_positions=piece.num_positions,
                image=image,
                part=part,
                number=number,
            )
        )
        tokens += [image_token(image, part, piece.num_tokens)] * piece.num_tokens
        part += 1
