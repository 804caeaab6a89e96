"""What a person sets up for a comparison, as it is typed, and what it means.

Promises: whatever a page sends becomes a form of bounded texts or is refused; everything that is
wrong with it is told by the field's name ("sides.1.temperature"), in words; a side's own wording
holds the common one where it says ``{prompt}``. Leaves to others: which models there are
(`_comparison_models`), the table (`_batch_source`), carrying it out (`_comparison_live`,
`compare.making`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from gguf_widgets.batch.template import Template
from gguf_widgets.compare.judge import Judge
from gguf_widgets.compare.scoring import Scoring
from gguf_widgets.compare.scoring_regex import Regex
from gguf_widgets.compare.scoring_similarity import Similarity
from gguf_widgets.compare.scorings import parse_scorings
from gguf_widgets.compare.sides import MAX_SIDES, MIN_SIDES, Side
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.settings import LoadSettings, SamplingSettings

__all__ = ["Draft", "Judged", "SideDraft", "column_place", "draft_of", "judge", "wording_of"]

_MAX_TEXT: Final = 200_000
_MAX_WORD: Final = 400
_PLAIN_NAME: Final = re.compile(r"[^{}\[\]!:.]+")
_PROMPT: Final = "{prompt}"
_SCORES: Final = ("exact", "json", "regex", "similarity", "judge", "length", "time")
_SCORE_FIELDS: Final = {"reference", "pattern", "similarity", "judge", "scores"}
_NEED_REFERENCE: Final = ("exact", "json", "similarity")


class SideDraft(msgspec.Struct, frozen=True, kw_only=True):
    """One side, as typed; a text that is empty leaves it to the common setting.

    Attributes
    ----------
    model : str
        The key of a model that can be chosen; see `_comparison_models`.
    label : str
    temperature, top_p, seed, n_ctx : str
    system, wording : str
    """

    model: str = ""
    label: str = ""
    temperature: str = ""
    top_p: str = ""
    seed: str = ""
    n_ctx: str = ""
    system: str = ""
    wording: str = ""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """The whole form.

    Attributes
    ----------
    sides : list of SideDraft
    mode : {"one", "many"}
        One prompt that is read along, or a table of them.
    prompt : str
    order : {"together", "turns"}
        Of one prompt: all at the same time, or one after another.
    max_tokens : str
    template : str
        Of a table: what is asked about a row.
    reference : str
        The column that says what is right; "" if none does.
    scores : list of str
        "" the usual ones.
    pattern : str
    similarity, judge : str
        Keys of models.
    early, strict : bool
    """

    sides: list[SideDraft] = []
    mode: Literal["one", "many"] = "one"
    prompt: str = ""
    order: Literal["together", "turns"] = "together"
    max_tokens: str = "256"
    template: str = ""
    reference: str = ""
    scores: list[str] = msgspec.field(default_factory=lambda: ["length", "time"])
    pattern: str = ""
    similarity: str = ""
    judge: str = ""
    early: bool = False
    strict: bool = False


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What a form means.

    Attributes
    ----------
    faults : dict of str to str
        By field; while there is any, nothing can be started.
    notes : list of str
        What a person should know, and may ignore.
    sides : list of Side
        Empty where a side has a fault.
    sampling : dict
        Common to all.
    template : str
        Of a table.
    scores : list of Scoring
    """

    faults: dict[str, str] = {}
    notes: list[str] = []
    sides: list[Any] = []
    sampling: dict[str, Any] = {}
    template: str = ""
    scores: list[Any] = []


def draft_of(given: Any) -> Draft:
    """Read a form that a page, or the store, holds.

    Raises
    ------
    InvalidValueError
        It is none, or a text of it is too long.
    """
    try:
        draft = msgspec.convert(given, Draft)
    except msgspec.ValidationError as error:
        raise InvalidValueError(f"What was set up cannot be read: {error}.") from error
    if len(draft.sides) > MAX_SIDES:
        raise InvalidValueError(
            f"A comparison has {MAX_SIDES} sides at most, not {len(draft.sides)}.", limit=MAX_SIDES
        )
    for side in draft.sides:
        _bounded(side, ("system", "wording"))
    _bounded(draft, ("prompt", "template"))
    unknown = [one for one in draft.scores if one not in _SCORES]
    if unknown or len(draft.scores) > len(_SCORES):
        raise InvalidValueError(f"There is no score called {str(unknown[:1])[:60]} here.")
    return draft


def _bounded(form: Any, long: Sequence[str]) -> None:
    for name in form.__struct_fields__:
        value = getattr(form, name)
        limit = _MAX_TEXT if name in long else _MAX_WORD
        if isinstance(value, str) and len(value) > limit:
            raise InvalidValueError(
                f"This text has {len(value):,} characters; {limit:,} can be used here.", limit=limit
            )


def judge(
    draft: Draft,
    models: Mapping[str, Any],
    columns: Sequence[str] | None = None,
) -> Judged:
    """Say what a form means, and what is wrong with it.

    Parameters
    ----------
    draft : Draft
    models : mapping of str to Side
        What each key of a model stands for; its settings come before those that are typed.
    columns : sequence of str, optional
        Of the table; None while there is none.
    """
    faults: dict[str, str] = {}
    is_many = draft.mode == "many"
    sampling: dict[str, Any] = {}
    _typed(faults, "max_tokens", draft.max_tokens, _whole, sampling, SamplingSettings)
    if "max_tokens" not in sampling and "max_tokens" not in faults:
        faults["max_tokens"] = "Say how long an answer may be, in tokens: such as 256."
    template = draft.template.strip() or _usual_template(columns)
    if is_many and columns is not None:
        _check_template(faults, "template", template, columns)
        if draft.reference and draft.reference not in columns:
            faults["reference"] = f"The table has no column “{draft.reference[:60]}”. Choose again."
    sides = []
    if len(draft.sides) < MIN_SIDES:
        faults["sides"] = f"A comparison needs {MIN_SIDES} sides at least. Add one."
    for number, side in enumerate(draft.sides):
        made = _side(faults, f"sides.{number}", side, models, template if is_many else None)
        if made is not None and is_many and columns is not None and side.wording.strip():
            _check_template(faults, f"sides.{number}.wording", made.template, columns)
        sides.append(made)
    told = [side.label.strip() for side in draft.sides if side.label.strip()]
    for number, side in enumerate(draft.sides):
        if told.count(side.label.strip()) > 1:
            faults[f"sides.{number}.label"] = "Two sides have this name. Give each its own."
    scores = _scores(faults, draft, models) if is_many else []
    return Judged(
        faults=faults,
        notes=_notes(draft),
        sides=[one for one in sides if one is not None] if None not in sides else [],
        sampling=sampling,
        template=template,
        scores=scores,
    )


def wording_of(wording: str, template: str | None) -> str:
    """Return what a side is asked: its own wording, with the common one in its place."""
    return wording if template is None else wording.replace(_PROMPT, template)


def _usual_template(columns: Sequence[str] | None) -> str:
    """Return the template of a table about which nothing was written."""
    if not columns or "prompt" in columns:
        return _PROMPT
    return column_place(columns[0])


def column_place(name: str) -> str:
    """Return what stands for a column in a template, whatever the column is called."""
    if _PLAIN_NAME.fullmatch(name) and name.strip():
        return "{" + name + "}"
    return "{{ row[" + json.dumps(name, ensure_ascii=False) + "] }}"


def _check_template(
    faults: dict[str, str], field: str, template: str, columns: Sequence[str]
) -> None:
    try:
        parsed = Template.parse(template)
        parsed.check(columns)
        if not parsed.columns_used(columns):
            faults[field] = (
                "This asks the same of every row. Put the name of a column in braces where the "
                f"row's text belongs, such as {_usual_template(columns)}."
            )
    except GgufWidgetsError as error:
        faults[field] = error.message


def _side(
    faults: dict[str, str],
    place: str,
    side: SideDraft,
    models: Mapping[str, Any],
    template: str | None,
) -> Side | None:
    before = len(faults)
    if not side.model:
        faults[f"{place}.model"] = "Choose a model."
    elif side.model not in models:
        faults[f"{place}.model"] = "This model is not here any more. Choose another one."
    base: Side = models.get(side.model, Side(""))
    sampling, load = dict(base.sampling), dict(base.load)
    for name, number in (("temperature", float), ("top_p", float), ("seed", _whole)):
        _typed(faults, name, getattr(side, name), number, sampling, SamplingSettings, place)
    _typed(faults, "n_ctx", side.n_ctx, _whole, load, LoadSettings, place)
    if load and not isinstance(base.model, str) and not hasattr(base.model, "__fspath__"):
        faults[f"{place}.n_ctx"] = (
            "This model was given loaded, so its context cannot be changed here. Leave this empty."
        )
    wording = None
    if side.wording.strip():
        if _PROMPT not in side.wording and template is None:
            faults[f"{place}.wording"] = (
                f"Put {_PROMPT} where the prompt belongs, such as: Answer in one word. {_PROMPT}"
            )
        wording = wording_of(side.wording, template)
        try:
            Template.parse(wording)
        except GgufWidgetsError as error:
            faults[f"{place}.wording"] = error.message
    if len(faults) > before:
        return None
    return Side(
        base.model,
        label=side.label.strip() or base.label,
        load=load,
        sampling=sampling,
        system=side.system.strip() or base.system,
        template=wording if wording is not None else base.template,
    )


def _typed(
    faults: dict[str, str],
    name: str,
    text: str,
    number: Callable[[str], float],
    into: dict[str, Any],
    settings: Any,
    place: str = "",
) -> None:
    """Put a number that was typed under its name, or note what is wrong with it."""
    said = text.strip()
    if not said:
        return
    field = f"{place}.{name}" if place else name
    try:
        value = number(said.replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        faults[field] = f"“{said[:40]}” is not a {'whole ' if number is _whole else ''}number."
        return
    try:
        settings.from_keywords(**{name: value})
    except GgufWidgetsError as error:
        faults[field] = error.message
        return
    into[name] = value


def _whole(text: str) -> int:
    return int(re.sub(r"(?<=\d)[,_ ](?=\d{3})", "", text))


def _scores(faults: dict[str, str], draft: Draft, models: Mapping[str, Any]) -> list[Scoring]:
    found: list[Any] = []
    for name in draft.scores:
        if name in _NEED_REFERENCE and not draft.reference:
            faults.setdefault(
                "reference",
                "These scores need to know what is right. Choose a column that says so.",
            )
        if name == "regex":
            try:
                found.append(Regex(draft.pattern or None))
            except GgufWidgetsError as error:
                faults["pattern"] = error.message
            if not draft.pattern and not draft.reference:
                faults["pattern"] = "Write the pattern that an answer must hold."
        elif name in ("similarity", "judge"):
            key = getattr(draft, name)
            model = models[key].model if key in models else None
            if model is None:
                faults[name] = "Choose the model that does this."
            else:
                found.append(Similarity(model) if name == "similarity" else Judge(model))
        else:
            found.append(name)
    if not draft.scores:
        faults.setdefault(
            "scores", "Choose what is to be scored: the length of the answers at least."
        )
    if _SCORE_FIELDS & faults.keys():
        return []
    try:
        made = parse_scorings(found, has_references=bool(draft.reference))
    except InvalidValueError as error:
        faults["scores"] = error.message
        return []
    if draft.early and not any(one.bounds is not None and one.kind != "judge" for one in made):
        faults["early"] = (
            "To stop when it is clear, a score is needed that says right or wrong at once, such as "
            "“The right answer, word for word”."
        )
    return made


def _notes(draft: Draft) -> list[str]:
    """Say which sides would answer alike."""
    told = []
    seen: dict[SideDraft, int] = {}
    for number, side in enumerate(draft.sides):
        bare = msgspec.structs.replace(side, label="")
        if side.model and bare in seen:
            a, b = "ABCD"[seen[bare]], "ABCD"[number]
            told.append(f"{a} and {b} are the same. Change the model or a setting of one.")
        seen.setdefault(bare, number)
    return told
