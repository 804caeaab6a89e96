"""The settings panel of the chat: presets, the system prompt, sampling, the form of the answer.

Promises: what the page sends is judged by the core before any of it counts, and refused where it
was asked; what a click changes at once (a preset, the maker's recommendation, a deletion) can be
undone; the page's state is made anew only when something of it has changed, and has a version, as
the answer to each change has, so that the page knows a state that is older than what it asked for.
Leaves to others: the values and their limits (`core.chat.settings`), own presets and their files
(`core.presets_own`, `core.presets_file`), words for each setting (`_chat_settings_fields`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, ClassVar, Final

import msgspec

from gguf_widgets.core.chat.settings import ChatSettings
from gguf_widgets.core.chat.types import ChatSnapshot
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.file_names import same_name
from gguf_widgets.core.model import Model
from gguf_widgets.core.presets import CREATIVITY, STYLES, Preset, checked_sampling, sampling_to_json
from gguf_widgets.core.presets_file import MAX_BYTES, read_presets, write_presets
from gguf_widgets.core.presets_own import Presets, Unusable
from gguf_widgets.core.presets_recommended import Recommended, recommended
from gguf_widgets.widgets._chat_part import ChatHost, ChatPart, Content
from gguf_widgets.widgets._chat_settings_answer import AnswerForm, form_of, read_form, sampling_of
from gguf_widgets.widgets._chat_settings_fields import FIELDS, catalogue, remarks

__all__ = ["SettingsPart"]

_MAX_WORD: Final = 200  # characters of a word whose tokens are asked for
_TITLES: Final = {field.name: field.title for field in FIELDS}


class SettingsPart(ChatPart):
    """What the next message is sent with, on the page."""

    NAME = "settings"

    def __init__(self, host: ChatHost) -> None:
        super().__init__(host)
        self._presets = Presets(host.chat.store)
        self._listed: list[Preset] | None = None  # as of the last look into the store
        self._unusable: list[Unusable] = []
        self._own_names: set[str] = set()
        self._undo: tuple[str, Callable[[], object]] | None = None
        self._form: AnswerForm | None = None  # as the person filled it in
        self._recommended = Recommended()
        self._recommended_for: str | None = None  # the model file that was looked at, or is
        self._fault = ""
        self._version = 0
        self._seen: tuple[Any, ...] = ()
        self._state: Content = {}

    # -- to the page ------------------------------------------------------------------------------

    def state(self, shot: ChatSnapshot) -> Content:
        """Return everything on the panel that may change."""
        settings, model = self.host.chat.settings, self.host.model
        self._look_at_model(None if model is None else model.info.path)
        version = self._version  # before the values: they are at least as new as it says
        seen = (
            version,
            settings.sampling,
            settings.preset,
            settings.own_system,
            settings.style,
            shot.model_name,
        )
        if seen != self._seen:
            self._seen, self._state = seen, {**self._made(settings), "version": version}
        return self._state

    def _made(self, settings: ChatSettings) -> Content:
        sampling, preset = settings.sampling, settings.preset
        form = self._form
        if form is None or not _stands_for(form, settings):
            form = self._form = form_of(sampling)
        return {
            "values": _plain(sampling.to_dict()),
            "standard": _plain(settings.standard.to_dict()),
            "changed": list(settings.changes),
            "remarks": remarks(sampling),
            "preset": preset.name,
            "about": {"title": preset.title, "description": preset.description},
            "presets": [_view(one, self._own_names) for one in self._all()],
            "unusable": [msgspec.to_builtins(one) for one in self._unusable],
            "creativity": _creativity(settings),
            "system": settings.system or "",
            "systemStandard": preset.system or "",
            "style": settings.style,
            "styleStandard": preset.style,
            "remark": settings.remark(self.host.model),
            "recommended": self._recommendation(settings),
            "answer": msgspec.to_builtins(form),
            "undo": self._undo[0] if self._undo is not None else "",
        }

    def _recommendation(self, settings: ChatSettings) -> Content:
        wanted = self._recommended.sampling
        values = settings.sampling.to_dict()
        return {
            "items": [
                {"name": name, "title": _TITLES[name], "value": value}
                for name, value in wanted.items()
            ],
            "notes": self._recommended.notes,
            "used": bool(wanted) and all(values[name] == value for name, value in wanted.items()),
            "fault": self._fault,
            "model": "" if self.host.model is None else self.host.model.name,
        }

    def _look_at_model(self, path: str | None) -> None:
        """Read what the maker of the model recommends, once for each model, off this thread."""
        if path == self._recommended_for:
            return
        self._recommended_for, self._recommended, self._fault = path, Recommended(), ""
        self._version += 1
        if path is None:
            return

        def look() -> None:
            found, fault = Recommended(), ""
            try:
                found = recommended(path)
            except GgufWidgetsError as error:
                fault = f"What its maker recommends could not be read. {error.message}"
            if path == self._recommended_for:
                self._recommended, self._fault = found, fault
                self._version += 1

        self.host.at_work(look)

    def _all(self) -> list[Preset]:
        if self._listed is None:
            self._listed, self._unusable = self._presets.all(), self._presets.unusable()
            self._own_names = {preset.name for preset in self._presets.own()}
        return self._listed

    def sent(self, content: Content) -> None:
        """Say with the message that went out where the preset does not suit the model."""
        del content
        remark = self.host.chat.settings.remark(self.host.model)
        if remark:
            self.host.say(remark)

    # -- changes ----------------------------------------------------------------------------------

    def _changed(self, *, presets: bool = False) -> Content:
        self._version += 1
        if presets:
            self._listed = None
        self.host.touch()
        return {"version": self._version}

    def _change(self, change: Callable[[ChatSettings], object], undo: str = "") -> Content:
        """Change the settings; with words for what it was, it can be undone."""
        before = self.host.chat.settings.to_dict()
        self.host.chat.change_settings(change)
        if undo:
            self._undo = (undo, lambda: self._bring_back(before))
        else:
            self._undo = None
        return self._changed()

    def _bring_back(self, before: Content) -> None:
        self.host.chat.change_settings(lambda settings: settings.restore(before))

    def _open(self, _content: Content, _buffers: list[Any]) -> Content:
        """Return what never changes; the store is looked at again."""
        return {
            **self._changed(presets=True),
            "fields": catalogue(),
            "styles": [msgspec.to_builtins(style) for style in STYLES.values()],
            "creativity": [
                {"name": one.name, "title": one.title, "description": one.description}
                for one in CREATIVITY.values()
            ],
            "maxBytes": MAX_BYTES,
        }

    def _set(self, content: Content, _buffers: list[Any]) -> Content:
        values = checked_sampling(content.get("values"))
        return self._change(lambda settings: settings.change(**values))

    def _reset(self, content: Content, _buffers: list[Any]) -> Content:
        name = content.get("name")
        if name == "answer":
            return self._change(lambda settings: settings.reset("schema", "grammar"))
        if isinstance(name, str):
            return self._change(lambda settings: settings.reset(name))
        return self._change(lambda settings: settings.reset_all(), "Everything was reset.")

    def _use(self, content: Content, _buffers: list[Any]) -> Content:
        settings = self.host.chat.settings
        had_changes = bool(settings.changes) or settings.own_system is not None
        name = str(content.get("preset"))
        title = self._presets.get(name).title
        words = f'Your changes went with the preset before; this is "{title}".'
        changed = self._change(lambda settings: settings.use(name), words if had_changes else "")
        self.host.say(self.host.chat.settings.remark(self.host.model))
        return changed

    def _creative(self, content: Content, _buffers: list[Any]) -> Content:
        preset = CREATIVITY.get(str(content.get("name")))
        if preset is None:
            raise InvalidValueError(f"It can be {', '.join(CREATIVITY)}.")
        return self._change(lambda settings: settings.change(**preset.sampling))

    def _follow_maker(self, _content: Content, _buffers: list[Any]) -> Content:
        wanted = self._recommended.sampling
        if not wanted:
            raise InvalidValueError("This model's file recommends nothing.")
        words = "The settings are those that the model's maker recommends."
        return self._change(lambda settings: settings.change(**wanted), words)

    def _system(self, content: Content, _buffers: list[Any]) -> Content:
        text = content.get("text")
        preset = self.host.chat.settings.preset
        # The preset's own words typed again are no change; nothing at all is one, if it has some.
        own = None if text == (preset.system or "") else text
        return self._change(lambda settings: setattr(settings, "system", own))

    def _style(self, content: Content, _buffers: list[Any]) -> Content:
        style = content.get("style")
        own = None if style == self.host.chat.settings.preset.style else style
        return self._change(lambda settings: setattr(settings, "style", own))

    def _undo_last(self, _content: Content, _buffers: list[Any]) -> Content:
        undo, self._undo = self._undo, None
        if undo is not None:
            undo[1]()
        return self._changed(presets=True)

    # -- the form of the answer -------------------------------------------------------------------

    def _answer(self, content: Content, _buffers: list[Any]) -> Content | None:
        form = read_form(content.get("answer"))
        values = checked_sampling(
            {name: value for name, value in sampling_of(form).items() if value is not None}
        )
        both = {"schema": None, "grammar": None, **values}
        model = self.host.model

        def judge_and_use() -> Content:
            if values and isinstance(model, Model):
                # Only the worker has the engine, which knows what it can follow: it writes a token.
                model.complete(" ", max_tokens=1, temperature=0.0, priority="batch", **values)
            self._form = form
            changed = self._change(lambda settings: settings.change(**both))
            schema = values.get("schema")
            text = json.dumps(schema, indent=2, ensure_ascii=False) if form.kind == "form" else None
            return {**changed, "judged": isinstance(model, Model), "schema": text}

        # What was kept is checked against everything else before the model is asked.
        self.host.chat.settings.sampling.replace(**both)
        self.host.at_work(judge_and_use, content)
        return None

    def _tokens(self, content: Content, _buffers: list[Any]) -> Content | None:
        """Return the tokens of a word, or the words of tokens, for the list of biases."""
        model, text, tokens = self.host.model, content.get("text"), content.get("tokens")
        if not isinstance(model, Model):
            raise InvalidValueError("Choose a model first: each has words of its own.")
        if isinstance(tokens, list) and all(isinstance(one, int) for one in tokens[:1000]):

            def name_them() -> Content:
                known = [one for one in tokens[:1000] if 0 <= one < model.info.n_vocab]
                return {"words": {str(one): model.detokenize([one]) for one in known}}

            self.host.at_work(name_them, content)
            return None
        if not isinstance(text, str) or not text or len(text) > _MAX_WORD:
            raise InvalidValueError(f"Write a word of at most {_MAX_WORD} characters.")

        def split() -> Content:
            found = []
            # Within a text most words begin with the blank before them.
            for variant in dict.fromkeys((text, f" {text.lstrip()}")):
                numbers = model.tokenize(variant, parse_special=False)
                if len(numbers) == 1:
                    found.append({"token": numbers[0], "text": model.detokenize(numbers)})
            if not found:
                raise InvalidValueError(
                    f'"{text}" is not one token for this model but several. Only single tokens '
                    "can be made more or less likely: try a shorter word."
                )
            return {"found": found}

        self.host.at_work(split, content)
        return None

    # -- one's own presets ------------------------------------------------------------------------

    def _save(self, content: Content, _buffers: list[Any]) -> Content:
        settings = self.host.chat.settings
        title = content.get("title")
        preset = settings.to_preset(
            title if isinstance(title, str) else "", str(content.get("description", ""))
        )
        kept = self._presets.add(preset, replace=content.get("replace") is True)
        self._listed = None
        changed = self._change(lambda settings: settings.use(kept.name))
        return {**changed, "name": kept.name, "title": kept.title}

    def _update(self, _content: Content, _buffers: list[Any]) -> Content:
        """Keep the changes in the preset in use, which is one's own."""
        preset = self.host.chat.settings.preset
        before = self._presets.get(preset.name)
        changed = self.host.chat.settings.to_preset(before.title, before.description)
        kept = self._presets.add(changed, replace=True)
        settings_before = self.host.chat.settings.to_dict()
        self._change(lambda settings: settings.use(kept.name))

        def bring_back() -> None:
            self._presets.add(before, replace=True)
            self._bring_back(settings_before)

        self._undo = (f'"{kept.title}" was changed.', bring_back)
        return self._changed(presets=True)

    def _rename(self, content: Content, _buffers: list[Any]) -> Content:
        renamed = self._presets.rename(_name(content), str(content.get("title", "")))
        if self.host.chat.settings.preset.name == renamed.name:
            self.host.chat.model_type = renamed.name  # takes it with its new title
        self._undo = None
        return {**self._changed(presets=True), "title": renamed.title}

    def _delete(self, content: Content, _buffers: list[Any]) -> Content:
        name = _name(content)
        title = next((one.title for one in self._all() if one.name == name), name)
        removed = self._presets.delete(name)
        self._undo = (f'"{title}" was deleted.', lambda: self._presets.restore(removed))
        return self._changed(presets=True)

    def _share(self, content: Content, _buffers: list[Any]) -> Content:
        preset = self._presets.get(_name(content))
        stem = re.sub(r"[^\w-]+", "-", preset.title).strip("-") or "preset"
        return {"file": write_presets([preset]), "fileName": f"{stem}.preset.json"}

    def _read(self, content: Content, _buffers: list[Any]) -> Content:
        """Judge a file and say what is in it; nothing is kept yet."""
        taken = {same_name(one.title): one for one in self._presets.all()}
        taken |= {same_name(one.title): one for one in CREATIVITY.values()}
        own = {one.name for one in self._presets.own()}
        found = []
        for preset in read_presets(_file(content)):
            other = taken.get(same_name(preset.title))
            found.append(
                {
                    "title": preset.title,
                    "description": preset.description,
                    "clash": other is not None,
                    "canReplace": other is not None and other.name in own,
                }
            )
        return {"presets": found}

    def _take(self, content: Content, _buffers: list[Any]) -> Content:
        """Keep the presets of a file, each as the person has decided."""
        choices = content.get("choices")
        choices = choices if isinstance(choices, dict) else {}
        added, left = [], []
        for preset in read_presets(_file(content)):
            choice = choices.get(preset.title, "add")
            if choice == "skip":
                left.append(preset.title)
                continue
            title = self._free_title(preset.title) if choice == "both" else preset.title
            # One that came in between is not written over unasked: the error says so.
            added.append(
                self._presets.add(
                    msgspec.structs.replace(preset, title=title), replace=choice == "replace"
                ).title
            )
        self._undo = None
        return {**self._changed(presets=True), "added": added, "left": left}

    def _free_title(self, title: str) -> str:
        taken = {same_name(one.title) for one in [*self._presets.all(), *CREATIVITY.values()]}
        number = 2
        while same_name(found := f"{title[:50]} ({number})") in taken:
            number += 1
        return found

    ACTIONS: ClassVar = {
        "settings-open": _open,
        "settings-set": _set,
        "settings-reset": _reset,
        "settings-use": _use,
        "settings-creative": _creative,
        "settings-maker": _follow_maker,
        "settings-system": _system,
        "settings-style": _style,
        "settings-undo": _undo_last,
        "settings-answer": _answer,
        "settings-tokens": _tokens,
        "settings-save": _save,
        "settings-update": _update,
        "settings-rename": _rename,
        "settings-delete": _delete,
        "settings-share": _share,
        "settings-read": _read,
        "settings-take": _take,
    }


def _plain(values: dict[str, Any]) -> Content:
    # The form of the answer is told apart from the others, and may be long.
    return sampling_to_json(
        {name: value for name, value in values.items() if name not in ("schema", "grammar")}
    )


def _view(preset: Preset, own: set[str]) -> Content:
    return {
        "name": preset.name,
        "title": preset.title,
        "description": preset.description,
        "own": preset.name in own,
    }


def _creativity(settings: ChatSettings) -> str:
    values = settings.sampling.to_dict()
    for preset in CREATIVITY.values():
        if all(values[name] == value for name, value in preset.sampling.items()):
            return preset.name
    return ""


def _stands_for(form: AnswerForm, settings: ChatSettings) -> bool:
    try:
        wanted = sampling_of(form)
    except InvalidValueError:
        return False
    now = settings.sampling
    return bool(wanted["schema"] == now.schema and wanted["grammar"] == now.grammar)


def _name(content: Content) -> str:
    name = content.get("name")
    if not isinstance(name, str):
        raise InvalidValueError("The page named no preset. Reload it and try again.")
    return name


def _file(content: Content) -> str:
    text = content.get("text")
    if not isinstance(text, str):
        raise InvalidValueError("The page sent no file. Choose it again.")
    return text
