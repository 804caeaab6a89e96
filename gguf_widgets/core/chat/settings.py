"""What the next message is sent with: a preset, with a person's changes on top.

Promises: a value is checked before it counts, so that a refused one changes nothing; what differs
from the preset is known by name and can be taken back; the whole is plain data that can be kept
with the conversation and brought back, also when its preset was deleted meanwhile. Leaves to
others: locks and events (`interface`), the presets themselves (`presets`, `presets_own`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from gguf_widgets.core.chat.types import well_formed
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.presets import (
    MODEL_TYPES,
    STYLES,
    Preset,
    checked,
    checked_sampling,
    sampling_to_json,
)
from gguf_widgets.core.presets_own import Presets
from gguf_widgets.core.settings import current_names
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import SamplingSettings

__all__ = ["ChatSettings"]


class ChatSettings:
    """What the next message is sent with.

    Parameters
    ----------
    model_type : str
        The name or the title of the preset that system prompt and sampling start from.
    system : str or None
        None takes the preset's own; "" sends none.
    sampling : mapping
        Changes on top of the preset's settings.
    store : Store, optional
        Where a person's own presets are; default: this process's own.
    """

    def __init__(
        self,
        model_type: str,
        system: str | None,
        sampling: Mapping[str, Any],
        store: Store | None = None,
    ) -> None:
        self._store = store
        self._preset = self._found(model_type)
        self._system = _checked_system(system)
        self._style: str | None = None
        self._changes = dict(sampling)
        self._sampling = self._preset.settings(**self._changes)

    # -- the preset -------------------------------------------------------------------------------

    @property
    def preset(self) -> Preset:
        """The preset in use, as it was when it was chosen."""
        return self._preset

    @property
    def model_type(self) -> str:
        """The name of the preset in use."""
        return self._preset.name

    @model_type.setter
    def model_type(self, name: str) -> None:
        preset = self._found(name)
        self._sampling = preset.settings(**self._changes)
        self._preset = preset

    def use(self, name: str) -> None:
        """Take a preset as it is: with its own system prompt, settings and style, and no changes.

        Raises
        ------
        InvalidValueError
            There is no such preset.
        """
        preset = self._found(name)
        self._sampling = preset.settings()
        self._preset, self._system, self._style, self._changes = preset, None, None, {}

    def remark(self, model: object) -> str:
        """Return what a person should know of this preset with this model; "" if nothing."""
        if not self._preset.needs_images or model is None or getattr(model, "sees_images", False):
            return ""
        return (
            f'The preset "{self._preset.title}" is for a model that sees images, and '
            f"{getattr(model, 'name', 'this one')} does not. It answers texts. For images load a "
            "model with its image companion (mmproj)."
        )

    # -- the system prompt ------------------------------------------------------------------------

    @property
    def system(self) -> str | None:
        """What is sent; None sends none."""
        return (self._system if self._system is not None else self._preset.system) or None

    @system.setter
    def system(self, system: str | None) -> None:
        self._system = _checked_system(system)

    @property
    def own_system(self) -> str | None:
        """What was set in place of the preset's system prompt; None if nothing was."""
        return self._system

    # -- how answers are shown --------------------------------------------------------------------

    @property
    def style(self) -> str:
        """How answers are shown: "markdown", "plain" or "code" (see `presets.STYLES`)."""
        return self._style if self._style is not None else self._preset.style

    @style.setter
    def style(self, style: str | None) -> None:
        if style is not None and (not isinstance(style, str) or style not in STYLES):
            raise InvalidValueError(
                f"style is {style!r:.60}; it can be {', '.join(STYLES)}, or None for the preset's.",
                name="style",
            )
        self._style = style

    # -- sampling ---------------------------------------------------------------------------------

    @property
    def sampling(self) -> SamplingSettings:
        """All of them, the standard ones included."""
        return self._sampling

    @sampling.setter
    def sampling(self, sampling: SamplingSettings | Mapping[str, Any]) -> None:
        given = sampling.to_dict() if isinstance(sampling, SamplingSettings) else sampling
        changes = current_names(given)
        self._sampling = self._preset.settings(**changes)
        self._changes = changes

    @property
    def standard(self) -> SamplingSettings:
        """The preset's own settings, without a person's changes."""
        return self._preset.settings()

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that differ from the preset's."""
        standard = self.standard.to_dict()
        return {
            name: value
            for name, value in self._sampling.to_dict().items()
            if value != standard[name]
        }

    def change(self, **values: Any) -> None:
        """Change some settings, and leave the others as they are.

        Raises
        ------
        InvalidValueError
            One is not known or not allowed, or they do not go together; nothing was changed.
        """
        changes = {**self._changes, **current_names(values)}
        self._sampling = self._preset.settings(**changes)
        self._changes = changes

    def reset(self, *names: str) -> None:
        """Go back to the preset's values of these settings; without a name, of all.

        Raises
        ------
        InvalidValueError
            One is no setting, or what is left does not go together; nothing was changed.
        """
        for name in names:
            if name not in SamplingSettings.__struct_fields__:
                SamplingSettings.from_keywords(**{name: None})  # says what it could be
        changes = {
            name: value for name, value in self._changes.items() if names and name not in names
        }
        self._sampling = self._preset.settings(**changes)
        self._changes = changes

    def reset_all(self) -> None:
        """Go back to the preset in everything: system prompt, sampling and style."""
        self._sampling = self._preset.settings()
        self._system, self._style, self._changes = None, None, {}

    # -- kept with the conversation ---------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON data, for `restore`."""
        return {
            "preset": self._preset.to_json(),
            "system": self._system,
            "style": self._style,
            "sampling": sampling_to_json(self.changes),
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Bring back what `to_dict` returned, with the preset as it is now, if it is still there.

        Raises
        ------
        InvalidValueError
            It cannot be used by this version; nothing was changed.
        """
        if not isinstance(kept, Mapping):
            raise InvalidValueError(f"Settings that were kept are an object, not {kept!r:.60}.")
        preset = checked(kept.get("preset"))
        with contextlib.suppress(InvalidValueError):  # deleted: the one that was kept does
            preset = self._found(preset.name)
        other = ChatSettings("text", kept.get("system"), {}, self._store)
        other._preset = preset
        other.style = kept.get("style")
        other.sampling = checked_sampling(kept.get("sampling", {}))
        self._preset, self._system, self._style = preset, other._system, other._style
        self._changes, self._sampling = other._changes, other._sampling

    def to_preset(self, title: str, description: str = "") -> Preset:
        """Return these settings as a preset, to be kept (`presets_own.Presets.add`).

        Raises
        ------
        InvalidValueError
            The title or the description is not allowed.
        """
        standard = SamplingSettings().to_dict()
        differing = {
            name: value
            for name, value in self._sampling.to_dict().items()
            if value != standard[name]
        }
        return checked(
            {
                "title": title,
                "description": description,
                "system": self.system,
                "sampling": sampling_to_json(differing),
                "style": self.style,
                "needs_images": self._preset.needs_images,
            }
        )

    def _found(self, name: str) -> Preset:
        if isinstance(name, str) and name in MODEL_TYPES:
            return MODEL_TYPES[name]  # without a look into the store
        return Presets(self._store).get(name)


def _checked_system(system: str | None) -> str | None:
    if system is not None and not isinstance(system, str):
        raise InvalidValueError(f"The system prompt must be a text, not {type(system).__name__}.")
    return well_formed(system) if system is not None else None
