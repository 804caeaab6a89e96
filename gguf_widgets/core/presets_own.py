"""The registry of presets: those that everybody has, and a person's own, kept in the store.

Promises: a name or a title finds one preset, and what finds none is refused with the nearest that
there is; each own preset was judged (`presets.checked`) before it was kept and is judged again when
it is read, since a newer version may have kept it: one that cannot be used here stays in the store
and is named, never dropped; changes by several windows at once do not lose each other. Leaves to
others: files (`presets_file`), what a chat does with a preset (`core.chat.settings`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.file_names import same_name
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.preferences import PRESETS, Preferences
from gguf_widgets.core.presets import BUILT_IN, MODEL_TYPES, Preset, checked
from gguf_widgets.core.store.store import Store

__all__ = ["MAX_OWN", "Presets", "Unusable"]

MAX_OWN: Final = 200
"""The most presets of one's own."""


class Unusable(msgspec.Struct, frozen=True, kw_only=True):
    """A preset in the store that this version cannot use, and why."""

    name: str
    why: str


class Presets:
    """All presets that there are.

    Parameters
    ----------
    store : Store, optional
        Where one's own are kept; default: this process's own.

    Examples
    --------
    >>> mine = Presets()  # doctest: +SKIP
    >>> mine.add("My tutor", system="Ask before you explain.", sampling={"temperature": 0.3})
    ... # doctest: +SKIP
    >>> gw.ChatInterface(model, model_type="My tutor")  # doctest: +SKIP
    """

    def __init__(self, store: Store | None = None) -> None:
        self._preferences = Preferences(store)

    # -- looking ----------------------------------------------------------------------------------

    def all(self) -> list[Preset]:
        """Return those that a chat can start from: the model types, then one's own by title."""
        return [*MODEL_TYPES.values(), *self.own()]

    def own(self) -> list[Preset]:
        """Return one's own, by title."""
        return self._read()[0]

    def unusable(self) -> list[Unusable]:
        """Return what is kept but cannot be used here: of a newer version, or damaged."""
        return self._read()[1]

    def get(self, name: str) -> Preset:
        """Return the preset of this name or title.

        Raises
        ------
        InvalidValueError
            There is none; the message names the nearest.
        """
        known = {preset.name: preset for preset in self.all()}
        if isinstance(name, str):
            found = known.get(name) or next(
                (one for one in known.values() if same_name(one.title) == same_name(name)), None
            )
            if found is not None:
                return found
        shown = plain_text(str(name), 80)
        why = next((one.why for one in self.unusable() if one.name == name), None)
        if why is not None:
            raise InvalidValueError(
                f'The preset "{shown}" cannot be used here. {why}', name="model_type", value=shown
            )
        near = difflib.get_close_matches(shown, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"It can be {', '.join(map(repr, known))}."
        raise InvalidValueError(
            f"There is no model_type {shown!r}. {hint}", name="model_type", value=shown
        )

    # -- one's own --------------------------------------------------------------------------------

    def add(self, preset: Preset | str, *, replace: bool = False, **fields: Any) -> Preset:
        """Keep a preset of one's own; return it as it was kept.

        Parameters
        ----------
        preset : Preset or str
            The preset, or the title of one that the other fields of `Preset` (`system`, `sampling`,
            `style`, ...) describe. Its name is made from the title.
        replace : bool, default False
            Whether one's own of the same title gives way; it keeps its name.

        Raises
        ------
        InvalidValueError
            A field is not allowed; the title is taken; there are `MAX_OWN` already.
        StoreError
            It could not be kept.
        """
        given = {**preset.to_json(), **fields} if isinstance(preset, Preset) else fields
        title = preset.title if isinstance(preset, Preset) else preset
        wanted = checked({**given, "title": title, "name": title})
        added: list[Preset] = []

        def change(kept: dict[str, Any]) -> dict[str, Any]:
            same = self._taken(kept, wanted.title)
            if same is not None and (not replace or same in BUILT_IN):
                raise _taken_error(wanted.title, can_replace=same not in BUILT_IN)
            name = same or _new_name(wanted.title, {*kept, *BUILT_IN})
            if same is None and len(kept) >= MAX_OWN:
                raise InvalidValueError(
                    f"There can be at most {MAX_OWN} presets of your own. Delete one first.",
                    limit=MAX_OWN,
                )
            added.append(msgspec.structs.replace(wanted, name=name))
            return {**kept, name: added[0].to_json()}

        self._change(change)
        return added[0]

    def rename(self, name: str, title: str) -> Preset:
        """Give one's own preset another title; its name, by which chats know it, stays.

        Raises
        ------
        InvalidValueError
            There is none of one's own with this name, or the title is taken or not allowed.
        """
        renamed: list[Preset] = []

        def change(kept: dict[str, Any]) -> dict[str, Any]:
            before = self._one_of(kept, name)
            wanted = checked({**before, "title": title})
            same = self._taken(kept, wanted.title)
            if same not in (None, name):
                raise _taken_error(wanted.title, can_replace=False)
            renamed.append(wanted)
            return {**kept, name: wanted.to_json()}

        self._change(change)
        return renamed[0]

    def delete(self, name: str) -> dict[str, Any]:
        """Remove one's own preset; return what `restore` brings back.

        Also one that cannot be used here may be removed.
        """
        removed: list[dict[str, Any]] = []

        def change(kept: dict[str, Any]) -> dict[str, Any]:
            removed.append({"name": name, "kept": self._one_of(kept, name)})
            return {other: data for other, data in kept.items() if other != name}

        self._change(change)
        return removed[0]

    def restore(self, removed: Mapping[str, Any]) -> None:
        """Bring back what `delete` returned.

        Raises
        ------
        InvalidValueError
            Its title or name was given to another meanwhile.
        """
        name, data = str(removed["name"]), removed["kept"]

        def change(kept: dict[str, Any]) -> dict[str, Any]:
            title = str(data.get("title", name)) if isinstance(data, Mapping) else name
            if name in kept or self._taken(kept, title) is not None:
                raise _taken_error(title, can_replace=False)
            return {**kept, name: data}

        self._change(change)

    # -- the store --------------------------------------------------------------------------------

    def _read(self) -> tuple[list[Preset], list[Unusable]]:
        kept = self._preferences.get(PRESETS, {})
        found: list[Preset] = []
        unusable: list[Unusable] = []
        for name, data in kept.items() if isinstance(kept, dict) else ():
            try:
                found.append(checked({**data, "name": name} if isinstance(data, dict) else data))
            except InvalidValueError as error:
                unusable.append(Unusable(name=name, why=error.message))
        return sorted(found, key=lambda preset: same_name(preset.title)), unusable

    def _change(self, change: Any) -> None:
        self._preferences.update(
            PRESETS, lambda kept: change(kept if isinstance(kept, dict) else {}), {}
        )

    @staticmethod
    def _one_of(kept: Mapping[str, Any], name: str) -> Any:
        if name in kept:
            return kept[name]
        if name in BUILT_IN:
            raise InvalidValueError(
                f'"{BUILT_IN[name].title}" belongs to the program and stays as it is. '
                "Save your settings as a preset of your own."
            )
        raise InvalidValueError(
            f'There is no preset "{plain_text(str(name), 80)}" of your own. It may have been '
            "deleted in another window."
        )

    @staticmethod
    def _taken(kept: Mapping[str, Any], title: str) -> str | None:
        """Return the name of the preset that has this title."""
        wanted = same_name(title)
        for preset in BUILT_IN.values():
            if wanted in (same_name(preset.title), same_name(preset.name)):
                return preset.name
        for name, data in kept.items():
            if isinstance(data, dict) and same_name(str(data.get("title", name))) == wanted:
                return name
        return None


def _taken_error(title: str, *, can_replace: bool) -> InvalidValueError:
    more = "Replace it, or choose another name." if can_replace else "Choose another name."
    return InvalidValueError(
        f'There is a preset called "{plain_text(title)}" already. {more}',
        title=title,
        taken=True,
        can_replace=can_replace,
    )


def _new_name(title: str, taken: set[str]) -> str:
    """Return a name for a new preset: its title in small letters, with hyphens for the rest."""
    stem = re.sub(r"\W+", "-", title.casefold()).strip("-")[:60].strip("-") or "preset"
    number = 1
    while (name := stem if number == 1 else f"{stem}-{number}") in taken:
        number += 1
    return name
