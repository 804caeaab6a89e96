"""The model types of a chat: a system prompt and sampling settings under one name.

Promises: one registry; a name that is not in it is refused with the nearest that is. Leaves to
others: the settings a person changes on top (`chat`), and keeping their own (`preferences`).
"""

from __future__ import annotations

import difflib
from typing import Any

import msgspec

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.types import SamplingSettings

__all__ = ["MODEL_TYPES", "ModelType", "model_type"]


class ModelType(msgspec.Struct, frozen=True, kw_only=True):
    """What a chat starts from.

    Parameters
    ----------
    name : str
        What a program writes.
    title, description : str
        What a person reads.
    system : str or None
        The system prompt; None sends none.
    sampling : dict
        The settings that differ from the standard ones.
    """

    name: str
    title: str
    description: str
    system: str | None = None
    sampling: dict[str, Any] = {}

    def settings(self, **changes: Any) -> SamplingSettings:
        """Return the sampling settings, with a person's own on top."""
        return SamplingSettings.from_keywords(**{**self.sampling, **changes})


MODEL_TYPES: dict[str, ModelType] = {
    kind.name: kind
    for kind in (
        ModelType(
            name="text",
            title="Text",
            description="Conversation and writing, with the standard settings.",
        ),
        ModelType(
            name="code",
            title="Code",
            description="Programming: answers vary less, and code comes in marked blocks.",
            system=(
                "You are a careful programming assistant. Put code into Markdown code blocks that "
                "name the language. Explain in a few plain sentences."
            ),
            sampling={"temperature": 0.2, "top_p": 0.9},
        ),
    )
}


def model_type(name: str) -> ModelType:
    """Return the model type called `name`.

    Raises
    ------
    InvalidValueError
        There is none.
    """
    found = MODEL_TYPES.get(name)
    if found is not None:
        return found
    known = ", ".join(repr(known) for known in MODEL_TYPES)
    if name == "multimodal":
        raise InvalidValueError(
            "model_type 'multimodal' needs a vision model and its mmproj file, and this version "
            f"cannot use those yet. It can be {known}.",
            name="model_type",
            value=name,
        )
    near = difflib.get_close_matches(str(name), MODEL_TYPES, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"It can be {known}."
    raise InvalidValueError(
        f"There is no model_type {name!r:.80}. {hint}", name="model_type", value=str(name)[:80]
    )
