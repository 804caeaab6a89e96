"""Scoring by meaning: how alike the vectors of an answer and of its reference are.

Promises: one figure for each answer, -1 to 1; texts go to the model many at a time; one that cannot
be embedded has a reason and does not stop the others. Leaves to others: loading the model
(`carrying`), vectors (`Model.embed`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gguf_widgets.compare.scoring import NO_REFERENCE, Score, Scoring, alternatives, text_of
from gguf_widgets.core.errors import (
    ContextOverflowError,
    InvalidValueError,
    NotEnoughMemoryError,
)
from gguf_widgets.core.model import Model

__all__ = ["Similarity", "model_record"]

_AT_ONCE: Final = 256


class Similarity(Scoring):
    """The cosine of the angle between the vectors of the answer and of the reference.

    1 is the same direction, and what "alike" is in figures depends on the model: compare sides, do
    not read the figure by itself. Of several right answers the nearest counts.

    Parameters
    ----------
    model : Model, str or path-like
        An embedding model does this best; any other takes the mean over its tokens.
    prefix : str, default ""
        Put before each text, such as ``"query: "``, where the model was trained so.
    name : str, default "similarity"
    """

    kind = "similarity"
    label = "Likeness to the right answer"
    bounds = (-1.0, 1.0)
    needs_reference = True

    def __init__(
        self,
        model: Model | str | os.PathLike[str],
        *,
        prefix: str = "",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.model = checked_model(model, "similarity")
        self.prefix = str(prefix)

    def options(self) -> dict[str, Any]:
        """Return its keywords."""
        return {"model": model_record(self.model), "prefix": self.prefix}

    def score_all(self, model: Model, items: Sequence[tuple[str, Any]]) -> list[Score]:
        """Score answers.

        Parameters
        ----------
        model : Model
            Loaded.
        items : sequence of (str, reference)
        """
        texts: list[str] = []
        places: list[tuple[int, list[int]] | None] = []
        for answer, reference in items:
            right = [] if reference is None else [text_of(one) for one in alternatives(reference)]
            right = [one for one in right if one.strip()]
            if not right or not answer.strip():
                places.append(None)
                continue
            start = len(texts)
            texts += [self.prefix + answer, *(self.prefix + one for one in right)]
            places.append((start, list(range(start + 1, len(texts)))))
        vectors = _embedded(model, texts)
        found = []
        for (_, reference), place in zip(items, places, strict=True):
            if place is None:
                empty = Score(0.0, {"note": "The answer is empty."})
                found.append(empty if reference is not None else NO_REFERENCE)
                continue
            own, others = vectors[place[0]], [vectors[one] for one in place[1]]
            problem = next((one for one in (own, *others) if isinstance(one, str)), None)
            if isinstance(problem, str):
                found.append(Score(None, {"note": problem}))
                continue
            nearest = max(float(own @ one) for one in others)
            found.append(Score(min(1.0, max(-1.0, nearest))))
        return found


def _embedded(model: Model, texts: Sequence[str]) -> list[Any]:
    """Return a vector for each text, or the reason why there is none."""
    found: list[Any] = []
    for start in range(0, len(texts), _AT_ONCE):
        part = texts[start : start + _AT_ONCE]
        try:
            found += list(model.embed(part))
        except (ContextOverflowError, InvalidValueError, NotEnoughMemoryError):
            found += [_one(model, text) for text in part]  # it is one of them
    return found


def _one(model: Model, text: str) -> Any:
    try:
        return model.embed(text)
    except (ContextOverflowError, InvalidValueError, NotEnoughMemoryError) as error:
        return error.message


def checked_model(model: Any, what: str) -> Model | str | Path:
    """Return what stands for a model; raise `InvalidValueError` for what does not."""
    if isinstance(model, Model):
        return model
    if isinstance(model, dict) and set(model) <= {"name", "path"}:  # as `model_record` made it
        return Path(model["path"]) if model.get("path") else str(model.get("name"))
    if isinstance(model, str) and model:
        return model
    if isinstance(model, os.PathLike):
        return Path(model)
    raise InvalidValueError(
        f"For {what} name a model: a loaded one, its name, or its file; this is a "
        f"{type(model).__name__}."
    )


def model_record(model: Model | str | Path) -> dict[str, str]:
    """Return what finds a model again, as JSON's own types."""
    if isinstance(model, Model):
        return {"name": model.name, "path": str(model.path)}
    if isinstance(model, Path):
        return {"name": model.stem, "path": str(model)}
    return {"name": model}
