"""The system prompt and the sampling settings of a chat: a model type's, with a person's on top.

Promises: a value is checked before it counts, so that a refused one changes nothing. Leaves to
others: locks and events (`chat`), the model types themselves (`presets`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gguf_widgets.core.chat_types import well_formed
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.presets import model_type as find_model_type
from gguf_widgets.core.types import SamplingSettings

__all__ = ["ChatSettings"]


class ChatSettings:
    """What the next message is sent with.

    Parameters
    ----------
    model_type : str
        Where system prompt and sampling start from.
    system : str or None
        None takes the model type's own; "" sends none.
    sampling : mapping
        Changes on top of the model type's settings.
    """

    def __init__(self, model_type: str, system: str | None, sampling: Mapping[str, Any]) -> None:
        self._type = find_model_type(model_type)
        self._system = _checked_system(system)
        self._changes = dict(sampling)
        self._sampling = self._type.settings(**self._changes)

    @property
    def model_type(self) -> str:
        """The name of the preset in use."""
        return self._type.name

    @model_type.setter
    def model_type(self, name: str) -> None:
        kind = find_model_type(name)
        self._sampling = kind.settings(**self._changes)
        self._type = kind

    @property
    def system(self) -> str | None:
        """What is sent; None sends none."""
        return (self._system if self._system is not None else self._type.system) or None

    @system.setter
    def system(self, system: str | None) -> None:
        self._system = _checked_system(system)

    @property
    def sampling(self) -> SamplingSettings:
        """All of them, the standard ones included."""
        return self._sampling

    @sampling.setter
    def sampling(self, sampling: SamplingSettings | Mapping[str, Any]) -> None:
        changes = sampling.to_dict() if isinstance(sampling, SamplingSettings) else dict(sampling)
        self._sampling = self._type.settings(**changes)
        self._changes = changes


def _checked_system(system: str | None) -> str | None:
    if system is not None and not isinstance(system, str):
        raise InvalidValueError(f"The system prompt must be a text, not {type(system).__name__}.")
    return well_formed(system) if system is not None else None
