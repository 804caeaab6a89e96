"""The settings of a conversation as people and programs reach them: properties, events, keeping.

Promises: a change is checked, counts for the next message, is told to the observers, and is kept
with the conversation, where the next notebook or page finds it; a change that cannot be kept counts
all the same and is told. Leaves to others: what the settings are (`settings`), where they are
kept (`store.conversation_settings`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from gguf_widgets.core.chat.model import ChatModel
from gguf_widgets.core.chat.settings import ChatSettings
from gguf_widgets.core.chat.types import Conversation, EventKind
from gguf_widgets.core.errors import InvalidValueError, StoreError
from gguf_widgets.core.store.conversation_settings import keep_settings, kept_settings
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import SamplingSettings

__all__ = ["HoldsSettings"]

_log = logging.getLogger(__name__)


class HoldsSettings:
    """The part of `ChatInterface` that is about its settings; see there."""

    store: Store
    _lock: threading.RLock
    _settings: ChatSettings
    _conversation_id: str | None
    _model: ChatModel | None
    _remarked: tuple[str, str] | None = None  # the preset and the model that were remarked on last

    @property
    def system(self) -> str | None:
        """The system prompt of the next message; None sends none.

        Set it to None to take the one of the model type, to "" to send none.
        """
        return self._settings.system

    @system.setter
    def system(self, system: str | None) -> None:
        self.change_settings(lambda settings: setattr(settings, "system", system))

    @property
    def model_type(self) -> str:
        """The preset in use; set it to the name or title of another. Changes on top stay."""
        return self._settings.model_type

    @model_type.setter
    def model_type(self, name: str) -> None:
        self.change_settings(lambda settings: setattr(settings, "model_type", name))

    @property
    def sampling(self) -> SamplingSettings:
        """The sampling settings of the next message.

        Set it to `SamplingSettings` to use exactly these, or to a dict to change some settings of
        the preset; ``{}`` goes back to the preset.
        """
        return self._settings.sampling

    @sampling.setter
    def sampling(self, sampling: SamplingSettings | Mapping[str, Any]) -> None:
        self.change_settings(lambda settings: setattr(settings, "sampling", sampling))

    @property
    def style(self) -> str:
        """How answers are shown: "markdown", "plain" or "code"; set it to None for the preset's."""
        return self._settings.style

    @style.setter
    def style(self, style: str | None) -> None:
        self.change_settings(lambda settings: setattr(settings, "style", style))

    @property
    def settings(self) -> ChatSettings:
        """All of the above, and what differs from the preset; change them by `change_settings`."""
        return self._settings

    def change_settings(self, change: Callable[[ChatSettings], object]) -> None:
        """Change the settings at once, whatever else happens: ``change(settings)``.

        Raises
        ------
        InvalidValueError
            From `change`.

        Examples
        --------
        >>> chat.change_settings(lambda settings: settings.change(top_k=5))  # doctest: +SKIP
        """
        with self._lock:
            change(self._settings)
            conversation_id = self._conversation_id
        if conversation_id is not None:
            try:
                self._keep_settings(conversation_id)
            except StoreError as error:
                self._notice(f"Your settings could not be kept for later. {error.message}")
        self._emit(EventKind.MODEL)

    def take_settings(self, kept: Any) -> bool:
        """Go on with what `ChatSettings.to_dict` returned; return whether it could be used.

        What cannot be used (a setting of a newer version) is told in a notice, and changes nothing.
        """
        try:
            self.change_settings(lambda settings: settings.restore(kept))
        except InvalidValueError as error:
            self._notice(f"Your settings of before could not be used. {error.message}")
            return False
        return True

    def _keep_settings(self, conversation_id: str) -> None:
        """Keep them with a conversation that is in the store."""
        try:
            keep_settings(self.store, conversation_id, self._settings.to_dict())
        except InvalidValueError:
            _log.info("The conversation %s is not in the store any more", conversation_id)

    def _take_settings_of(self, conversation: Conversation) -> str | None:
        """Go on with the settings that were kept with a conversation; return what is to be told."""
        notice = None
        kept = kept_settings(self.store, conversation.id)
        if kept is not None:
            try:
                self._settings.restore(kept)
            except InvalidValueError as error:
                notice = f"Not all settings of this conversation could be used. {error.message}"
            else:
                return None
        self._settings.system = conversation.system or ""
        try:
            self._settings.model_type = conversation.model_type
        except InvalidValueError:
            # Of a later version, or a preset that is gone; its system prompt was kept.
            _log.info("The model type %r is not known here", conversation.model_type)
        return notice

    def _remark_on_preset(self) -> None:
        """Tell the observers, once, that the preset in use does not suit the model."""
        model = self._model
        remark = self._settings.remark(model)
        about = (self._settings.preset.name, str(getattr(model, "name", "")))
        if remark and about != self._remarked:
            self._emit(EventKind.NOTICE, text=remark)
        self._remarked = about

    def _emit(self, kind: EventKind, **fields: Any) -> None:
        raise NotImplementedError

    def _notice(self, text: str) -> None:
        raise NotImplementedError
