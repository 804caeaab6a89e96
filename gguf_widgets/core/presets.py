"""Presets: a system prompt, sampling settings and how answers are shown, under one name.

Promises: the presets that everybody has (`MODEL_TYPES`, and `CREATIVITY`, which are about chance
alone); `checked` is the one judge of a preset, wherever it comes from: whatever passes it can be
sent, shown, kept and written to a file, and whatever does not is refused with the name of what is
wrong. Leaves to others: a person's own and looking one up (`presets_own`), files (`presets_file`),
what a person changes on top (`core.chat.settings`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gguf_widgets.core.chat.types import well_formed
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.settings import SamplingSettings, current_names

__all__ = [
    "BUILT_IN",
    "CREATIVITY",
    "MODEL_TYPES",
    "STYLES",
    "Preset",
    "Style",
    "checked",
    "checked_sampling",
    "sampling_to_json",
]

_MAX_NAME: Final = 80
_MAX_TITLE: Final = 60
_MAX_DESCRIPTION: Final = 500
_MAX_SYSTEM: Final = 100_000
_MAX_BIASES: Final = 1000
_MAX_STOP: Final = 1000  # characters of one stop word
_MAX_SAMPLING: Final = 200_000  # characters of all of it as JSON: a schema may be long


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """How answers are shown. What the model is sent is not changed by it.

    Parameters
    ----------
    name : str
        What a program writes.
    title, description : str
        What a person reads.
    advice : str
        Words for a system prompt that ask a model for such answers; nobody adds them but a person.
    """

    name: str
    title: str
    description: str
    advice: str


STYLES: Final[dict[str, Style]] = {
    style.name: style
    for style in (
        Style(
            name="markdown",
            title="Formatted",
            description="Headings, lists, tables and code as the model marks them (Markdown).",
            advice="Use Markdown for headings, lists and code.",
        ),
        Style(
            name="plain",
            title="Plain text",
            description="Exactly what the model writes, with its own line breaks.",
            advice="Answer in plain text, without Markdown.",
        ),
        Style(
            name="code",
            title="Code",
            description="Exactly what the model writes, in letters of one width: for code or JSON.",
            advice="Answer with code alone, without explanations.",
        ),
    )
}


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """What a chat starts from.

    Parameters
    ----------
    name : str
        What a program writes; it stays when the title is changed.
    title, description : str
        What a person reads.
    system : str or None
        The system prompt; None sends none.
    sampling : dict
        The settings that differ from the standard ones.
    style : {"markdown", "plain", "code"}
        How answers are shown; see `STYLES`.
    needs_images : bool
        Whether it is for a model that sees images.
    """

    name: str
    title: str
    description: str = ""
    system: str | None = None
    sampling: dict[str, Any] = {}
    style: str = "markdown"
    needs_images: bool = False

    def settings(self, **changes: Any) -> SamplingSettings:
        """Return the sampling settings, with a person's own on top."""
        return SamplingSettings.from_keywords(**{**self.sampling, **changes})

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data, as `checked` reads it."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "system": self.system,
            "sampling": sampling_to_json(self.sampling),
            "style": self.style,
            "needs_images": self.needs_images,
        }


_FOCUSED: Final = {"temperature": 0.2, "top_p": 0.9, "min_p": 0.05}

MODEL_TYPES: Final[dict[str, Preset]] = {
    preset.name: preset
    for preset in (
        Preset(
            name="text",
            title="Text",
            description="Conversation and writing, with the standard settings.",
        ),
        Preset(
            name="code",
            title="Code",
            description="Programming: answers vary less, and code comes in marked blocks.",
            system=(
                "You are a careful programming assistant. Put code into Markdown code blocks that "
                "name the language. Explain in a few plain sentences."
            ),
            sampling=dict(_FOCUSED),
        ),
        Preset(
            name="multimodal",
            title="Images and text",
            description="Questions about images, for a model that sees them.",
            system=(
                "Look closely at the images you are given. Say what you see in them, and say so "
                "when you are not sure."
            ),
            sampling={"temperature": 0.4},
            needs_images=True,
        ),
    )
}

CREATIVITY: Final[dict[str, Preset]] = {
    preset.name: preset
    for preset in (
        Preset(
            name="focused",
            title="Focused",
            description="The likeliest words: facts, code, reading data out of a text.",
            sampling=dict(_FOCUSED),
        ),
        Preset(
            name="balanced",
            title="Balanced",
            description="Some chance: conversation.",
            sampling={"temperature": 0.8, "top_p": 0.95, "min_p": 0.05},
        ),
        Preset(
            name="creative",
            title="Creative",
            description="More chance: stories, ideas. It may wander, or get things wrong.",
            sampling={"temperature": 1.2, "top_p": 1.0, "min_p": 0.05},
        ),
    )
}
"""Each names the same settings, so that taking one of them leaves nothing of another."""

BUILT_IN: Final[dict[str, Preset]] = {**MODEL_TYPES, **CREATIVITY}


# -- judging ---------------------------------------------------------------------------------------


def checked(given: Any) -> Preset:
    """Return the preset that plain data stands for; the data may come from anywhere.

    Parameters
    ----------
    given : dict
        The fields of `Preset`. A title is needed; without a name it is the title.

    Raises
    ------
    InvalidValueError
        A field or a setting that is not known here (each by its name), a wrong type, a value out
        of range, or a text that is too long.
    """
    if not isinstance(given, Mapping):
        raise InvalidValueError(f"A preset is an object with a title, not {_kind(given)}.")
    title = _line(given.get("title"), "A preset's title", _MAX_TITLE)
    which = f'The preset "{title}"'
    unknown = [str(key) for key in given if key not in Preset.__struct_fields__]
    if unknown:
        raise InvalidValueError(
            f"{which} has fields that this version does not know: {_names(unknown)}. "
            "It may be from a newer version; update gguf-widgets, or remove them.",
            preset=title,
            unknown=[plain_text(name) for name in unknown[:20]],
        )
    style = given.get("style", "markdown")
    if not isinstance(style, str) or style not in STYLES:
        raise InvalidValueError(
            f"{which} has the style {_value(style)}; it can be {', '.join(STYLES)}.", preset=title
        )
    needs_images = given.get("needs_images", False)
    if not isinstance(needs_images, bool):
        raise InvalidValueError(
            f"{which}: needs_images is {_value(needs_images)}; it can be true or false.",
            preset=title,
        )
    try:
        sampling = checked_sampling(given.get("sampling", {}))
    except InvalidValueError as error:
        raise InvalidValueError(f"{which}: {error.message}", preset=title) from error
    return Preset(
        name=_line(given.get("name", title), f"{which}: its name", _MAX_NAME),
        title=title,
        description=_text(
            given.get("description", ""), f"{which}: its description", _MAX_DESCRIPTION
        ),
        system=_system(given.get("system"), which),
        sampling=sampling,
        style=style,
        needs_images=needs_images,
    )


def checked_sampling(given: Any) -> dict[str, Any]:
    """Return settings from plain data as `SamplingSettings` takes them, each of them judged.

    Parameters
    ----------
    given : dict
        By name. As JSON has them: a token in `logit_bias` may be a text of digits, and "-inf" is
        minus infinity.

    Raises
    ------
    InvalidValueError
        For a name that is no setting, with what it is called, and for a value that is not allowed.
    """
    if not isinstance(given, Mapping):
        raise InvalidValueError(f"Sampling settings are an object, not {_kind(given)}.")
    given = current_names(given)
    known = SamplingSettings.__struct_fields__
    unknown = [str(key) for key in given if key not in known]
    if unknown:
        raise InvalidValueError(
            f"This version does not know the setting{'s' if len(unknown) > 1 else ''} "
            f"{_names(unknown)}. Update gguf-widgets, or remove "
            f"{'them' if len(unknown) > 1 else 'it'}.",
            unknown=[plain_text(name) for name in unknown[:20]],
        )
    found = {str(name): _of_json(str(name), value) for name, value in given.items()}
    for name, value in found.items():
        # Each alone first, so that the message is about that one.
        try:
            SamplingSettings.from_keywords(**{name: value})
        except InvalidValueError as error:
            if not isinstance(error.__cause__, msgspec.ValidationError):
                raise  # in its own words already
            raise InvalidValueError(
                f"{name} is {_value(given[name])}. {_expected(name)}", name=name
            ) from error
    settings = SamplingSettings.from_keywords(**found)
    if any(len(one) > _MAX_STOP for one in settings.stop):
        raise InvalidValueError(
            f"A stop word can have at most {_MAX_STOP:,} characters.", name="stop"
        )
    if len(json.dumps(sampling_to_json(found))) > _MAX_SAMPLING:
        raise InvalidValueError(
            f"The settings are too long: at most {_MAX_SAMPLING:,} characters as JSON. "
            "Shorten the schema."
        )
    return {name: getattr(settings, name) for name in found}


def sampling_to_json(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as plain JSON data, as `checked_sampling` reads it."""
    plain: dict[str, Any] = {}
    for name, value in sampling.items():
        if name == "logit_bias":
            plain[name] = {
                str(token): bias if math.isfinite(bias) else str(bias)
                for token, bias in value.items()
            }
        else:
            plain[name] = list(value) if isinstance(value, tuple) else value
    return plain


def _of_json(name: str, value: Any) -> Any:
    """Return a value of JSON as Python has it; what is wrong with it is left for the judge."""
    if isinstance(value, int) and value.bit_length() > 64:
        raise InvalidValueError(f"{name} is {_value(value)}.", name=name)
    if name in ("stop", "dry_breakers") and isinstance(value, list | tuple):
        return tuple(well_formed(one) if isinstance(one, str) else one for one in value)
    if name == "grammar" and isinstance(value, str):
        return well_formed(value)
    if name != "logit_bias" or not isinstance(value, Mapping):
        return value
    if len(value) > _MAX_BIASES:
        raise InvalidValueError(
            f"logit_bias can name at most {_MAX_BIASES:,} tokens; {len(value):,} were given.",
            name=name,
        )
    biases: dict[Any, Any] = {}
    for token, bias in value.items():
        is_number = isinstance(token, str) and token.isascii() and token.isdigit()
        key = int(token) if is_number and len(token) < 12 else token
        if isinstance(key, bool) or not isinstance(key, int) or not 0 <= key < 2**31:
            raise InvalidValueError(
                f"logit_bias names the token {_value(token)}; a token is a whole number from 0.",
                name=name,
            )
        biases[key] = -math.inf if bias == "-inf" else bias
    return biases


def _expected(name: str) -> str:
    kinds = {
        "stop": "It is a list of texts.",
        "dry_breakers": "It is a list of texts.",
        "logit_bias": "It gives each token a number from -1e30 to 1e30, or -inf.",
        "ignore_eos": "It can be true or false.",
        "reproducible": "It can be true or false.",
        "grammar": "It is a text (GBNF).",
    }
    standard = getattr(SamplingSettings(), name)
    number = "It is a number." if isinstance(standard, float) else "It is a whole number."
    return kinds.get(name, number)


def _system(given: Any, which: str) -> str | None:
    return None if given is None else _text(given, f"{which}: its system prompt", _MAX_SYSTEM)


def _line(given: Any, what: str, limit: int) -> str:
    text = _text(given, what, limit).strip()
    if not text:
        raise InvalidValueError(f"{what} is missing. Write one.")
    if not text.isprintable():
        raise InvalidValueError(
            f"{what} holds characters that cannot be shown: {_value(text)}. Write it on one line."
        )
    return text


def _text(given: Any, what: str, limit: int) -> str:
    if not isinstance(given, str):
        raise InvalidValueError(f"{what} must be a text, not {_kind(given)}.")
    if len(given) > limit:
        raise InvalidValueError(
            f"{what} has {len(given):,} characters; at most {limit:,} are allowed. Shorten it.",
            limit=limit,
        )
    return well_formed(given)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    kinds = ((bool, "true or false"), (int | float, "a number"), (str, "a text"), (list, "a list"))
    return next((word for kind, word in kinds if isinstance(value, kind)), type(value).__name__)


def _value(value: Any) -> str:
    """Return a value from outside inside a sentence, whatever it holds and however long it is."""
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of very many digits"
    return plain_text(repr(value) if not isinstance(value, str) else f'"{value[:200]}"', 60)


def _names(names: list[str]) -> str:
    shown = ", ".join(f'"{plain_text(name, 40)}"' for name in names[:10])
    return shown + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")
