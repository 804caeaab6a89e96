"""Prompts with blanks: "Translate into {language}: {text}".

Promises: a template is plain text in which ``{name}`` is a blank; ``{{`` and ``}}`` are braces;
a brace that opens no blank stands for itself, so that code and JSON can be pasted as they are. What
is filled in is text and never read again. A person's own templates are in the store, there for
every page; one that is shared as a file is checked as if a stranger had written it. Leaves to
others: the form (`widgets._chat_writing`), templates over a table (`batch.template`).

`BUILT_IN` are those that everybody has; one's own of the same name takes its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gguf_widgets.core.chat.types import well_formed
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.file_names import same_name
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.preferences import Preferences

__all__ = ["BUILT_IN", "Imported", "PromptTemplate", "PromptTemplates", "blanks_of", "fill"]

_KEY: Final = "prompt_templates"
_FORM: Final = "gguf-widgets prompt templates"
_VERSION: Final = 1

_MAX_NAME: Final = 60
_MAX_TEXT: Final = 20_000
_MAX_BLANKS: Final = 20
_MAX_TEMPLATES: Final = 500
_MAX_FILE_BYTES: Final = 4 * 1024 * 1024

_PIECE: Final = re.compile(r"\{\{|\}\}|\{([^\W\d_][\w \-]{0,39})\}")


class PromptTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A prompt with blanks.

    Parameters
    ----------
    name : str
        What a person chooses it by, at most 60 characters.
    text : str
        With ``{blanks}``, at most 20,000 characters.
    description : str
        One line about it.
    """

    name: str
    text: str
    description: str = ""

    @property
    def blanks(self) -> list[str]:
        """The names of its blanks, each once, in order."""
        return blanks_of(self.text)

    def filled(self, values: Mapping[str, str]) -> str:
        """Return the prompt; see `fill`."""
        return fill(self.text, values)


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of a file: the names that were added, and those that were there already.

    `renamed` has each name that another template had, and what it became.
    """

    added: tuple[str, ...]
    known: tuple[str, ...]
    renamed: dict[str, str]


BUILT_IN: Final = (
    PromptTemplate(
        name="Summarize",
        description="The main points of a text, as short as you say",
        text="Summarize this text in {length}. Keep names and numbers.\n\n{text}",
    ),
    PromptTemplate(
        name="Translate",
        description="Into another language, in the same tone",
        text="Translate this text into {language}. Keep the tone and the layout. Write only the"
        " translation.\n\n{text}",
    ),
    PromptTemplate(
        name="Improve my writing",
        description="Clearer and without mistakes, your meaning kept",
        text="Correct the mistakes in this text and make it easier to read, for {readers}. Do not"
        " change what it says. Then list what you changed.\n\n{text}",
    ),
    PromptTemplate(
        name="Explain",
        description="A thing, for somebody who is new to it",
        text="Explain {topic} to {reader}. Begin with the idea in one sentence, then give an"
        " example.",
    ),
    PromptTemplate(
        name="Write an email",
        description="From a few points to the whole email",
        text="Write an email to {recipient}. It should be {tone} and say:\n\n{points}",
    ),
    PromptTemplate(
        name="Sort into groups",
        description="Which of your labels fits a text",
        text="Which of these labels fits the text best: {labels}? Answer with the label"
        " alone.\n\n{text}",
    ),
    PromptTemplate(
        name="Take out as JSON",
        description="The facts you name, as a JSON object",
        text="Read the text and give these fields as one JSON object: {fields}. Use null for what"
        " the text does not say. Write only the JSON.\n\n{text}",
    ),
    PromptTemplate(
        name="Review code",
        description="Mistakes first, then what could be simpler",
        text="Review this {language} code. List mistakes first, with the line and a correction,"
        " then what could be simpler. Say so if there is nothing.\n\n```\n{code}\n```",
    ),
    PromptTemplate(
        name="For and against",
        description="Both sides of a decision, and what to find out",
        text="I am deciding whether to {decision}. Give the strongest reasons for it and against"
        " it, and say what I should find out before I decide.",
    ),
)


def blanks_of(text: str) -> list[str]:
    """Return the names of a text's blanks, each once, in order.

    Examples
    --------
    >>> blanks_of("Translate {text} into {language}: {{not}} {1} { } {text}")
    ['text', 'language']
    """
    return list(dict.fromkeys(m[1] for m in _PIECE.finditer(text) if m[1]))


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its blanks filled in.

    Raises
    ------
    InvalidValueError
        A blank has no value; ``details["missing"]`` names them all.

    Examples
    --------
    >>> fill('{a} of {{"b": {b}}}', {"a": "{b}", "b": "2"})
    '{b} of {"b": 2}'
    """
    missing = [name for name in blanks_of(text) if name not in values]
    if missing:
        raise InvalidValueError(
            f"There is nothing to put in for {', '.join(map(repr, missing))}. Fill in every blank.",
            missing=missing,
        )

    def piece(match: re.Match[str]) -> str:
        return str(values[match[1]]) if match[1] else match[0][0]

    return _PIECE.sub(piece, text)


class PromptTemplates:
    """All templates there are: the built-in ones and a person's own.

    Parameters
    ----------
    preferences : Preferences, optional
        Where one's own are kept; default: this process's store.
    """

    def __init__(self, preferences: Preferences | None = None) -> None:
        self._preferences = preferences if preferences is not None else Preferences()

    def own(self) -> list[PromptTemplate]:
        """Return a person's own templates, by name."""
        return sorted(_known(self._preferences.get(_KEY, [])), key=lambda one: same_name(one.name))

    def all(self) -> list[PromptTemplate]:
        """Return one's own templates, then the built-in ones whose names are not among them."""
        own = self.own()
        names = {same_name(one.name) for one in own}
        return [*own, *(one for one in BUILT_IN if same_name(one.name) not in names)]

    def get(self, name: str) -> PromptTemplate:
        """Return the template called `name`.

        Raises
        ------
        InvalidValueError
            There is none.
        """
        for template in self.all():
            if same_name(template.name) == same_name(name):
                return template
        raise InvalidValueError(
            f"There is no prompt template {plain_text(str(name))!r}.", name="template"
        )

    def save(self, template: PromptTemplate, instead_of: str | None = None) -> PromptTemplate:
        """Keep a template, in the place of one of the same name or of the one `instead_of`.

        Returns
        -------
        PromptTemplate
            As it was kept: the name on one line, half characters replaced.

        Raises
        ------
        InvalidValueError
            It has no name or no text, is too long, or there are too many.
        """
        kept = _checked(template)
        gone = {same_name(kept.name), same_name(instead_of or kept.name)}

        def change(value: Any) -> list[dict[str, str]]:
            others = [one for one in _known(value) if same_name(one.name) not in gone]
            if len(others) >= _MAX_TEMPLATES:
                raise _too_many()
            return _plain([*others, kept])

        self._preferences.update(_KEY, change, [])
        return kept

    def delete(self, name: str) -> PromptTemplate:
        """Forget one of one's own; return it, so that it can be saved again.

        Raises
        ------
        InvalidValueError
            There is none of one's own of that name; a built-in one stays.
        """
        gone: list[PromptTemplate] = []

        def change(value: Any) -> list[dict[str, str]]:
            known = _known(value)
            gone[:] = [one for one in known if same_name(one.name) == same_name(name)]
            return _plain([one for one in known if one not in gone])

        self._preferences.update(_KEY, change, [])
        if not gone:
            raise InvalidValueError(
                f"{plain_text(str(name))!r} is not one of your own prompt templates, so it cannot"
                " be deleted.",
                name="template",
            )
        return gone[0]

    def export(self, names: Sequence[str] | None = None) -> bytes:
        """Return templates as a file (JSON): those named, or all of one's own.

        Raises
        ------
        InvalidValueError
            There is none of a name, or nothing to export.
        """
        chosen = self.own() if names is None else [self.get(name) for name in names]
        if not chosen:
            raise InvalidValueError("You have no prompt templates of your own to save as a file.")
        whole = {"form": _FORM, "version": _VERSION, "templates": _plain(chosen)}
        return json.dumps(whole, ensure_ascii=False, indent=2).encode()

    def add_from(self, data: bytes) -> Imported:
        """Add the templates of a file that `export` made.

        One that is there already, word for word, is left as it is; where only the name is taken,
        the new one gets a number behind it. Either all of a file is added, or nothing.

        Raises
        ------
        InvalidValueError
            It is no such file, or one of its templates cannot be used.
        """
        incoming = _from_file(data)
        added: list[str] = []
        known: list[str] = []
        renamed: dict[str, str] = {}

        def change(value: Any) -> list[dict[str, str]]:
            for one_list in (added, known):
                one_list.clear()
            renamed.clear()
            here = {same_name(one.name): one for one in [*BUILT_IN, *_known(value)]}
            own = _known(value)
            for one in incoming:
                there = here.get(same_name(one.name))
                if there is not None and there.text == one.text:
                    known.append(one.name)
                    continue
                kept = one
                if there is not None:
                    kept = msgspec.structs.replace(one, name=_free_name(one.name, set(here)))
                    renamed[one.name] = kept.name
                here[same_name(kept.name)] = kept
                own.append(kept)
                added.append(kept.name)
            if len(own) > _MAX_TEMPLATES:
                raise _too_many()
            return _plain(own)

        self._preferences.update(_KEY, change, [])
        return Imported(added=tuple(added), known=tuple(known), renamed=renamed)


def _checked(template: PromptTemplate) -> PromptTemplate:
    name = _one_line(template.name, _MAX_NAME + 1)
    text = well_formed(template.text)
    description = _one_line(template.description, 200)
    if not name or not text.strip():
        raise InvalidValueError("A prompt template needs a name and a text.", name="template")
    if len(name) > _MAX_NAME:
        raise InvalidValueError(
            f"The name is longer than {_MAX_NAME} characters. Choose a shorter one.", name="name"
        )
    if len(text) > _MAX_TEXT:
        raise InvalidValueError(
            f"The prompt template {name!r} has {len(text):,} characters; at most {_MAX_TEXT:,} are"
            " possible. Attach long texts as files instead.",
            name="text",
        )
    if len(blanks_of(text)) > _MAX_BLANKS:
        raise InvalidValueError(
            f"The prompt template {name!r} has {len(blanks_of(text))} blanks; at most"
            f" {_MAX_BLANKS} are possible. Write {{{{ and }}}} for braces that are no blanks.",
            name="text",
        )
    return PromptTemplate(name=name, text=text, description=description)


def _one_line(text: str, limit: int) -> str:
    return plain_text(" ".join(plain_text(well_formed(text), 4 * limit).split()), limit)


def _from_file(data: bytes) -> list[PromptTemplate]:
    if len(data) > _MAX_FILE_BYTES:
        raise InvalidValueError(
            f"The file is larger than {_MAX_FILE_BYTES // 2**20} MB: it is no file of prompt"
            " templates.",
            problem="size",
        )
    try:
        whole = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _no_file() from error
    if not isinstance(whole, dict) or whole.get("form") != _FORM:
        raise _no_file()
    if whole.get("version") != _VERSION:
        raise InvalidValueError(
            f"The file is of version {whole.get('version')!r:.20} and this program knows version"
            f" {_VERSION}. Update the program.",
            problem="version",
        )
    items = whole.get("templates")
    if not isinstance(items, list) or not items:
        raise _no_file()
    if len(items) > _MAX_TEMPLATES:
        raise _too_many()
    try:
        return [_checked(msgspec.convert(item, PromptTemplate)) for item in items]
    except msgspec.ValidationError as error:
        raise InvalidValueError(
            f"One of the file's prompt templates is not as it should be: {error}."
        ) from error


def _known(value: Any) -> list[PromptTemplate]:
    """Return what was kept; what cannot be read (of a later version) is not shown."""
    found = []
    for item in value if isinstance(value, list) else []:
        try:
            found.append(_checked(msgspec.convert(item, PromptTemplate)))
        except (msgspec.ValidationError, InvalidValueError):
            continue
    return found


def _plain(templates: Sequence[PromptTemplate]) -> list[dict[str, str]]:
    return [msgspec.to_builtins(one) for one in templates]


def _free_name(name: str, taken: set[str]) -> str:
    number = 2
    while True:
        ending = f" ({number})"
        free = name[: _MAX_NAME - len(ending)].rstrip() + ending
        if same_name(free) not in taken:
            return free
        number += 1


def _too_many() -> InvalidValueError:
    return InvalidValueError(
        f"There can be at most {_MAX_TEMPLATES} prompt templates. Delete some first.",
        limit=_MAX_TEMPLATES,
    )


def _no_file() -> InvalidValueError:
    return InvalidValueError(
        "This is no file of prompt templates. Such a file comes from “Save as a file” in the list"
        " of prompt templates.",
        problem="format",
    )
