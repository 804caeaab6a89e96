"""The sampling settings as a person reads them, and which of them do nothing just now.

Promises: every field of `SamplingSettings` is here once, with a name and a sentence in everyday
language, and with the limits that the core checks; a setting that is said to have no effect has
none (`engine.sampler` builds the same chain whatever its value). Leaves to others: the look
(static/_chat_settings_fields.js), the values (`core.chat.settings`).
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from gguf_widgets.core.presets import sampling_to_json
from gguf_widgets.core.settings import SAMPLING_LIMITS, SamplingSettings

__all__ = ["FIELDS", "GROUPS", "Field", "catalogue", "remarks"]

FieldKind = Literal["number", "whole", "switch", "choice", "texts", "bias", "answer"]


class Field(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One setting on the panel.

    Parameters
    ----------
    name : str
        The exact name; shown in the tooltip.
    group : str
        A key of `GROUPS`.
    title, about : str
        What it is called, and what it does, in everyday words.
    kind : str
        How it is set. "answer" stands for `schema` and `grammar` together.
    slider : tuple of float, optional
        From, to and step of a slider beside the number; the number itself may go beyond.
    none : str
        What None means, where it is allowed.
    first : float, optional
        What a number begins with when None is given up for one.
    choices : list of (value, title)
        Of the kind "choice".
    expert : bool
        Whether it is folded away.
    """

    name: str
    group: str
    title: str
    about: str
    kind: FieldKind = "number"
    slider: tuple[float, float, float] | None = None
    none: str = ""
    first: float | None = None
    choices: tuple[tuple[int, str], ...] = ()
    expert: bool = False


GROUPS: Final[dict[str, str]] = {
    "chance": "How much chance",
    "length": "How long, and where it stops",
    "repetition": "Repetition",
    "form": "Form of the answer",
    "expert": "For experts",
}

FIELDS: Final[tuple[Field, ...]] = (
    Field(
        name="temperature",
        group="chance",
        title="Variety",
        about="How freely the next word is picked. 0 always takes the likeliest; more brings more "
        "surprises, and more errors.",
        slider=(0, 2, 0.05),
    ),
    Field(
        name="top_p",
        group="chance",
        title="Share of likely words",
        about="Only the likeliest words that together have this share of the probability can be "
        "picked. 1 allows all.",
        slider=(0, 1, 0.01),
    ),
    Field(
        name="min_p",
        group="chance",
        title="Least likely word",
        about="A word must be at least this fraction as likely as the likeliest. 0 allows all.",
        slider=(0, 0.5, 0.01),
    ),
    Field(
        name="top_k",
        group="chance",
        title="Number of candidates",
        about="Only so many of the likeliest words can be picked. 0 allows all.",
        kind="whole",
        slider=(0, 200, 1),
    ),
    Field(
        name="seed",
        group="chance",
        title="Seed",
        about="Where chance starts from. The same seed and settings usually give the same answer.",
        kind="whole",
        none="Drawn each time",
        first=1,
    ),
    Field(
        name="max_tokens",
        group="length",
        title="Longest answer",
        about="In tokens, which are about three quarters of an English word. A longer answer is "
        "cut off there.",
        kind="whole",
        none="As long as there is room",
        first=500,
    ),
    Field(
        name="stop",
        group="length",
        title="Stop words",
        about="The answer ends where the model writes one of these; the word itself is left out.",
        kind="texts",
    ),
    Field(
        name="repeat_penalty",
        group="repetition",
        title="Against repeating",
        about="Above 1, what was written lately becomes less likely. Too much makes answers odd.",
        slider=(1, 1.5, 0.01),
    ),
    Field(
        name="presence_penalty",
        group="repetition",
        title="Towards something new",
        about="Above 0, words that were used at all become less likely; below 0, likelier.",
        slider=(-2, 2, 0.1),
    ),
    Field(
        name="frequency_penalty",
        group="repetition",
        title="Against frequent words",
        about="Above 0, a word becomes less likely with each time it was used; below 0, likelier.",
        slider=(-2, 2, 0.1),
    ),
    Field(
        name="repeat_last_n",
        group="repetition",
        title="How far back",
        about="Over how many of the last tokens repetition counts. -1 is the whole conversation, "
        "0 is off.",
        kind="whole",
        slider=(-1, 512, 1),
    ),
    Field(
        name="schema",
        group="form",
        title="The answer is",
        about="Keep the model to a form: it can write nothing else.",
        kind="answer",
    ),
    Field(
        name="grammar",
        group="form",
        title="Grammar",
        about="A form of your own for the answer, in llama.cpp's notation (GBNF).",
        kind="answer",
    ),
    Field(
        name="mirostat",
        group="expert",
        title="Steady surprise",
        about="Steers every answer to the same amount of surprise, in place of the limits on "
        "likely words.",
        kind="choice",
        choices=((0, "Off"), (1, "Version 1"), (2, "Version 2")),
        expert=True,
    ),
    Field(
        name="mirostat_tau",
        group="expert",
        title="Amount of surprise",
        about="What the answer is steered to, in bits a token. Lower is more predictable.",
        slider=(0, 10, 0.1),
        expert=True,
    ),
    Field(
        name="mirostat_eta",
        group="expert",
        title="Speed of steering",
        about="How quickly it corrects itself.",
        slider=(0, 1, 0.01),
        expert=True,
    ),
    Field(
        name="typical_p",
        group="expert",
        title="Typical words",
        about="Keeps words that are about as surprising as expected here. 1 is off.",
        slider=(0, 1, 0.01),
        expert=True,
    ),
    Field(
        name="top_n_sigma",
        group="expert",
        title="Distance from the best",
        about="Keeps words whose score is within so many standard deviations of the best. 0 is "
        "off.",
        slider=(0, 5, 0.1),
        expert=True,
    ),
    Field(
        name="xtc_probability",
        group="expert",
        title="Leave out the obvious",
        about="How often all likely words but the least likely of them are left out. 0 is never.",
        slider=(0, 1, 0.01),
        expert=True,
    ),
    Field(
        name="xtc_threshold",
        group="expert",
        title="What counts as likely",
        about="The probability from which a word counts as an obvious one. Above 0.5 nothing is "
        "left out.",
        slider=(0, 0.5, 0.01),
        expert=True,
    ),
    Field(
        name="dry_multiplier",
        group="expert",
        title="Against repeating phrases",
        about="How strongly a phrase that was written before is avoided (DRY). 0 is off.",
        slider=(0, 5, 0.1),
        expert=True,
    ),
    Field(
        name="dry_base",
        group="expert",
        title="Growth with length",
        about="How much more a longer repeated phrase is avoided than a shorter one.",
        slider=(1, 4, 0.05),
        expert=True,
    ),
    Field(
        name="dry_allowed_length",
        group="expert",
        title="Phrases that may repeat",
        about="Phrases of up to so many tokens may be repeated freely.",
        kind="whole",
        slider=(1, 20, 1),
        expert=True,
    ),
    Field(
        name="dry_penalty_last_n",
        group="expert",
        title="How far back for phrases",
        about="Over how many of the last tokens. -1 is the whole conversation, 0 is off.",
        kind="whole",
        expert=True,
    ),
    Field(
        name="dry_breakers",
        group="expert",
        title="Where phrases begin anew",
        about="A phrase is never counted across one of these.",
        kind="texts",
        expert=True,
    ),
    Field(
        name="logit_bias",
        group="expert",
        title="Words made more or less likely",
        about="Adds to a token's score: 5 makes it far likelier, -5 far less likely. A word that "
        "is forbidden is never written.",
        kind="bias",
        expert=True,
    ),
    Field(
        name="min_tokens",
        group="expert",
        title="Shortest answer",
        about="The model may not end before so many tokens; a stop word still ends it.",
        kind="whole",
        expert=True,
    ),
    Field(
        name="ignore_eos",
        group="expert",
        title="Never end by itself",
        about="The answer goes on until it is stopped, is as long as allowed, or the context is "
        "full.",
        kind="switch",
        expert=True,
    ),
    Field(
        name="logprobs",
        group="expert",
        title="Alternatives recorded",
        about="How many other words are kept with each word of an answer, for looking inside.",
        kind="whole",
        none="As this chat usually does",
        first=5,
        expert=True,
    ),
    Field(
        name="reproducible",
        group="expert",
        title="Reproducible to the last digit",
        about="The same seed gives the same answer on this computer for sure. It is slow: nothing "
        "else runs on this model meanwhile.",
        kind="switch",
        expert=True,
    ),
)

_GREEDY: Final = 1e-5  # below it the engine takes the likeliest token, as at 0
_LIMITING: Final = (
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "top_n_sigma",
    "xtc_probability",
    "xtc_threshold",
)
_MIROSTAT: Final = ("mirostat", "mirostat_tau", "mirostat_eta")


def catalogue() -> list[dict[str, Any]]:
    """Return the fields as plain data for the page, with their limits and standard values."""
    standard = sampling_to_json(SamplingSettings().to_dict())
    found = []
    for field in FIELDS:
        plain = msgspec.to_builtins(field)
        low, high = SAMPLING_LIMITS.get(field.name, (None, None))
        found.append(
            {
                "kind": field.kind,
                "none": "",
                **plain,
                "group": GROUPS[field.group],
                "low": low,
                "high": high,
                "usual": standard[field.name],
            }
        )
    return found


def remarks(sampling: SamplingSettings) -> dict[str, str]:
    """Return what to say under some settings, by name: that they do nothing now, and why."""
    found: dict[str, str] = {}
    _about_repetition(sampling, found)
    if sampling.temperature < _GREEDY:
        why = "Without effect: with a variety of 0 the likeliest word is always taken."
        return {**found, **dict.fromkeys((*_LIMITING, *_MIROSTAT, "seed"), why)}
    if sampling.mirostat:
        why = "Without effect: steady surprise (mirostat) takes its place."
        return {**found, **dict.fromkeys(_LIMITING, why)}
    if sampling.xtc_probability == 0:
        found["xtc_threshold"] = "Without effect while nothing obvious is left out."
    elif sampling.xtc_threshold > 0.5:
        found["xtc_probability"] = "Without effect: nothing counts as likely above 0.5."
    why = "Without effect while steady surprise (mirostat) is off."
    found |= dict.fromkeys(("mirostat_tau", "mirostat_eta"), why)
    if sampling.top_k == 1:
        why = "Without effect: with 1 candidate the likeliest word is always taken."
        later = ("temperature", "top_p", "min_p", "typical_p", "seed")
        found |= dict.fromkeys((*later, "xtc_probability", "xtc_threshold"), why)
    return found


def _about_repetition(sampling: SamplingSettings, found: dict[str, str]) -> None:
    penalties = ("repeat_penalty", "presence_penalty", "frequency_penalty")
    neutral = (1.0, 0.0, 0.0)
    if sampling.repeat_last_n == 0:
        why = "Without effect: looking back is off."
        found |= dict.fromkeys(penalties, why)
    elif tuple(getattr(sampling, name) for name in penalties) == neutral:
        found["repeat_last_n"] = "Without effect while nothing acts against repetition."
    phrases = ("dry_base", "dry_allowed_length", "dry_breakers")
    if sampling.dry_multiplier == 0:
        why = "Without effect while nothing acts against repeating phrases."
        found |= dict.fromkeys((*phrases, "dry_penalty_last_n"), why)
    elif sampling.dry_penalty_last_n == 0:
        why = "Without effect: looking back for phrases is off."
        found |= dict.fromkeys((*phrases, "dry_multiplier"), why)
    if sampling.stop and sampling.constrained:
        found["stop"] = "Mind: a stop word ends the answer even in the middle of its form."
    if sampling.max_tokens is not None and sampling.constrained:
        found["max_tokens"] = "Mind: an answer that is cut off does not keep to its form."
