"""What a person has set up for a batch run on the page, and what is wrong with it.

Promises: what a page sends is bounded and of the form below, or refused; each fault is told with
the field that it belongs to, in words; what is sound is turned into the keywords of
`BatchProcessor.prepare`. Nothing is asked of a model here. Leaves to others: what an answer is
(`_batch_answer`), the prompt of one row (`_batch_preview`), the run (`batch_table`), the form
itself (static/_batch_form.js).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from gguf_widgets.batch.frame import check_names
from gguf_widgets.batch.images import MAX_COLUMNS, NO_IMAGES, ImageColumns
from gguf_widgets.batch.missing import MissingRule
from gguf_widgets.batch.output import Output
from gguf_widgets.batch.spec import MAX_SAMPLES, Prompt, Spec
from gguf_widgets.batch.template import MAX_SOURCE_CHARS, Template
from gguf_widgets.core.conversation_input import to_messages
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.types import Message, SamplingSettings
from gguf_widgets.widgets._batch_answer import (
    Answer,
    Long,
    Short,
    answer_of,
    number_of,
    schema_of,
    whole_of,
)
from gguf_widgets.widgets._batch_images import Source, columns_in, source_of

__all__ = [
    "FORM_SAMPLING",
    "Draft",
    "Fix",
    "Judged",
    "Turn",
    "draft_of",
    "draft_of_spec",
    "judge",
    "with_template",
]

_T = TypeVar("_T")
_MOST_TURNS: Final = 200
_MOST_MODELS: Final = 15
_MOST_IMAGES: Final = 200  # more than a run can have, so that it can be said in words
FORM_SAMPLING: Final = frozenset({"temperature", "max_tokens"})  # settings with a place in the form


class Turn(msgspec.Struct, rename="camel"):
    """A message that stands between the system message and what is asked about a row."""

    role: Literal["user", "assistant"] = "user"
    content: Long = ""


class Draft(msgspec.Struct, rename="camel"):
    """All that the form holds; numbers as they were typed.

    `models` are the names of those that are asked besides the table's own; `images` the columns
    that hold pictures, `images_folder` where their files are, if that is not the table's own.
    """

    prompt: Long = ""
    system: Long = ""
    turns: Annotated[list[Turn], msgspec.Meta(max_length=_MOST_TURNS)] = []
    answer: Answer = msgspec.field(default_factory=Answer)
    missing: Literal["refuse", "skip", "empty", "with"] = "refuse"
    missing_text: Short = ""
    n: Short = "1"
    max_tokens: Short = ""
    temperature: Short = "0"
    title: Short = ""
    models: Annotated[list[Short], msgspec.Meta(max_length=_MOST_MODELS)] = []
    images: Annotated[list[Short], msgspec.Meta(max_length=_MOST_IMAGES)] = []
    images_folder: Short = ""


class Fix(msgspec.Struct, frozen=True):
    """A name that is not a column, and the column that was probably meant."""

    wrong: str
    right: str


class Judged(msgspec.Struct):
    """What a draft comes to.

    Attributes
    ----------
    faults : dict of str to str
        By field: "table", "prompt", "system", "turns", "answer", "missing", "n", "maxTokens",
        "temperature", "images", "imagesFolder".
    fixes : list of Fix
    template : Template or None
    output : Output or None
    images : ImageColumns
        Those of the chosen columns that the table has.
    keywords : dict
        For `BatchProcessor.prepare`; only to be used if there are no faults.
    """

    faults: dict[str, str] = {}
    fixes: list[Fix] = []
    template: Template | None = None
    output: Output | None = None
    images: ImageColumns = NO_IMAGES
    keywords: dict[str, Any] = {}

    @property
    def missing(self) -> MissingRule:
        """What is done about missing values; refusing, while the form is at fault."""
        return MissingRule.parse(self.keywords.get("missing", "refuse"))


def draft_of(content: Any) -> Draft:
    """Read what a page sent.

    Raises
    ------
    InvalidValueError
        It is not of this form, or too long.
    """
    try:
        return msgspec.convert(content, Draft)
    except msgspec.ValidationError as error:
        raise InvalidValueError(f"The form cannot be read: {error}.") from error


def judge(
    draft: Draft,
    columns: Sequence[str],
    kept: Output | None = None,
    *,
    source: Source | None = None,
    sees: bool | None = None,
) -> Judged:
    """Look for everything that can be wrong before a row is asked.

    Parameters
    ----------
    draft : Draft
    columns : sequence of str
        The table's; empty while there is no table, and then no column is called unknown.
    kept : Output, optional
        What ``answer.kind == "kept"`` stands for.
    source : Source, optional
        Where the files are that the table names; default: where they are of a page's table.
    sees : bool, optional
        Whether the model sees images, if there is one.
    """
    judged = Judged(faults={}, fixes=[], keywords={})
    _template(draft, columns, judged)
    if draft.images:
        _images(draft, columns, judged, source_of(None) if source is None else source)
        if sees is False:
            judged.faults.setdefault("images", _NO_SIGHT)
    _try(judged, "answer", lambda: _answer(draft.answer, kept, judged))
    rule: Any = draft.missing
    if draft.missing == "with":
        rule = {"with": draft.missing_text}
        if not draft.missing_text:
            judged.faults["missing"] = "Write the text that stands in for a missing value."
    judged.keywords["missing"] = rule
    n = _try(judged, "n", lambda: whole_of(draft.n, "Answers for each row", 1, MAX_SAMPLES))
    judged.keywords["n"] = n or 1
    if draft.max_tokens.strip():
        most = _try(
            judged, "maxTokens", lambda: whole_of(draft.max_tokens, "The longest answer", 1)
        )
        if most is not None:
            judged.keywords["max_tokens"] = most
    temperature = _try(judged, "temperature", lambda: number_of(draft.temperature, "Temperature"))
    if temperature is not None:
        judged.keywords["temperature"] = float(temperature)
        sampling = {"temperature": float(temperature)}
        _try(judged, "temperature", lambda: SamplingSettings.from_keywords(**sampling))
        if temperature == 0 and (n or 1) > 1:
            judged.faults["temperature"] = (
                "With temperature 0 all answers to a row are the same. Set it above 0, such as "
                "0.8, or ask each row once."
            )
    if draft.title.strip():
        judged.keywords["title"] = draft.title.strip()[:200]
    if judged.template is not None and judged.output is not None and columns:
        template, output = judged.template, judged.output
        _try(judged, "table", lambda: _names(columns, template, output, n or 1))
    return judged


def _try(judged: Judged, field: str, make: Callable[[], _T]) -> _T | None:
    try:
        return make()
    except GgufWidgetsError as error:
        judged.faults.setdefault(field, error.message)
        return None


def _names(columns: Sequence[str], template: Template, output: Output, n: int) -> None:
    check_names(columns, Spec((Prompt(template, output),), (), {}, num_samples=n))


# -- the prompt ------------------------------------------------------------------------------------


def _template(draft: Draft, columns: Sequence[str], judged: Judged) -> None:
    if not draft.prompt.strip():
        judged.faults["prompt"] = "Write what the model is to do with a row."
        return
    system = draft.system if draft.system.strip() else None
    turns = [Message(role=one.role, content=one.content) for one in draft.turns]
    asked: Any = draft.prompt
    if turns:
        asked = [*turns, Message(role="user", content=draft.prompt)]
    source = asked
    if system is not None:
        own = asked if turns else [Message(role="user", content=draft.prompt)]
        source = [Message(role="system", content=system), *own]
    # Which field each message of the template is in.
    fields = ["system"] * (system is not None) + ["turns"] * len(turns) + ["prompt"]
    try:
        template = Template.parse(source)
    except InvalidValueError as error:
        _at_message(error, fields, judged)
        return
    judged.template = template
    judged.keywords |= {"prompt": asked, "system": system}
    if not columns:
        return
    try:
        template.check(columns)
    except InvalidValueError as error:
        unknown = set(error.details.get("unknown", ()))
        if unknown:
            judged.faults[_field_with(unknown, template, fields)] = error.message
        else:
            _at_message(error, fields, judged)
        nearest: Mapping[str, str] = error.details.get("nearest", {})
        judged.fixes = [Fix(wrong, right) for wrong, right in nearest.items()]


def _field_with(unknown: set[str], template: Template, fields: list[str]) -> str:
    """Return the field that names one of these columns; what is asked, before all others."""
    last_first = zip(reversed(template.messages), reversed(fields), strict=True)
    for message, field in last_first:
        if not message["content"].strip():
            continue
        if unknown & set(Template.parse(message["content"], template.syntax).columns):
            return field
    return "prompt"


def _at_message(error: InvalidValueError, fields: list[str], judged: Judged) -> None:
    """Tell a fault at the text that it is in; the words that say which are not needed there."""
    number = error.details.get("message_number")
    is_known = isinstance(number, int) and 1 <= number <= len(fields)
    field = fields[number - 1] if is_known and number is not None else "prompt"
    message = error.message
    if field != "turns":  # of those there may be several
        for role in ("system", "user"):
            message = message.removeprefix(f"Message {number} ({role}): ")
    judged.faults[field] = message


def with_template(template: Any, draft: Draft, sampling: Mapping[str, Any]) -> Draft:
    """Return a draft that asks a template, and has all else as another one.

    Of `sampling` it takes what the form has a place for (`FORM_SAMPLING`).

    Raises
    ------
    InvalidValueError
        It is no text, and no conversation that ends with a message of the user; it is too long.
    """
    messages = to_messages(template)
    length = sum(len(message["content"]) for message in messages)
    if length > MAX_SOURCE_CHARS:
        raise InvalidValueError(
            f"The template has {length:,} characters; it can have {MAX_SOURCE_CHARS:,}. Put long "
            "texts into a column.",
            limit=MAX_SOURCE_CHARS,
        )
    roles = [message["role"] for message in messages]
    system = messages.pop(0)["content"] if roles[0] in ("system", "developer") else ""
    if not messages or messages[-1]["role"] != "user":
        raise InvalidValueError(
            "The last message of a template is what is asked about a row: one of the user. "
            f"This conversation ends with {roles[-1]!r}. Leave its last answer out."
        )
    *turns, asked = messages
    if len(turns) > _MOST_TURNS:
        raise InvalidValueError(
            f"The conversation has {len(turns):,} messages before the last; a template can have "
            f"{_MOST_TURNS}. Take its end only.",
            limit=_MOST_TURNS,
        )
    for number, message in enumerate(turns, 1 + bool(system)):
        if message["role"] not in ("user", "assistant"):
            raise InvalidValueError(
                f"Message {number} has the role {message['role']!r}; in the table's form it can be "
                "user or assistant. With others, use model.map(...).",
                role=message["role"],
            )
    return msgspec.structs.replace(
        draft,
        prompt=asked["content"],
        system=system,
        turns=[
            Turn("assistant" if one["role"] == "assistant" else "user", one["content"])
            for one in turns
        ],
        temperature=_typed(sampling.get("temperature", draft.temperature)),
        max_tokens=_typed(sampling.get("max_tokens", draft.max_tokens)),
    )


def _typed(value: float | str | None) -> str:
    """Return a setting as a person would have typed it."""
    return "" if value is None else value if isinstance(value, str) else f"{value:.10g}"


# -- columns with pictures -------------------------------------------------------------------------

_NO_SIGHT: Final = (
    "The model cannot see pictures. Choose one that does (the list of models says “Sees images”), "
    "or take the columns out here. In Python: load(..., mmproj=FILE) with the file for images that "
    "belongs to the model."
)


def _images(draft: Draft, columns: Sequence[str], judged: Judged, source: Source) -> None:
    names = list(dict.fromkeys(draft.images))
    unknown = [name for name in names if columns and name not in columns]
    known = [name for name in names if name not in unknown]
    if unknown:
        judged.faults["images"] = (
            f'The table has no column "{plain_text(unknown[0], 60)}". Take it out here.'
        )
    elif len(names) > MAX_COLUMNS:
        judged.faults["images"] = (
            f"{len(names)} columns with pictures are chosen; a run can have {MAX_COLUMNS}. Take "
            f"{len(names) - MAX_COLUMNS} out."
        )
    found = _try(judged, "imagesFolder", lambda: columns_in(known, draft.images_folder, source))
    judged.images = ImageColumns(tuple(known), "", ()) if found is None else found
    judged.keywords["images"] = judged.images
    template = judged.template
    for message in template.messages if template is not None else ():
        if message["role"] == "user" or template is None or not message["content"].strip():
            continue
        here = Template.parse(message["content"], template.syntax).columns
        wrong = next((name for name in known if name in here), None)
        if wrong is not None:
            field = "system" if message["role"] in ("system", "developer") else "turns"
            judged.faults.setdefault(
                field,
                f'The column "{plain_text(wrong, 60)}" holds pictures, and a picture can only be '
                "in a message of yours. Take it out here, and put it into the prompt.",
            )


# -- the answer ------------------------------------------------------------------------------------


def _answer(answer: Answer, kept: Output | None, judged: Judged) -> None:
    schema = kept if answer.kind == "kept" else schema_of(answer)
    judged.output = Output.parse(schema)
    judged.keywords["schema"] = schema


# -- back from a run -------------------------------------------------------------------------------


def draft_of_spec(spec: Spec, title: str = "") -> Draft | None:
    """Return the form that asks the same; None if a run cannot be asked by the form."""
    if len(spec.prompts) != 1:
        return None
    prompt = spec.prompts[0]
    messages = prompt.template.messages
    try:
        draft = with_template(messages, Draft(), {})
    except InvalidValueError:
        return None  # it has messages that the form has no place for
    draft = msgspec.structs.replace(
        draft,
        missing=spec.missing.action,
        missing_text=spec.missing.text,
        n=str(spec.num_samples),
        temperature=f"{spec.sampling.get('temperature', 0.0):g}",
        max_tokens=str(spec.sampling.get("max_tokens") or ""),
        title=title,
        models=[one.name for one in spec.models[1 : 1 + _MOST_MODELS]],
        images=list(spec.images.columns),
        images_folder=_folder_of(spec.images),
        answer=answer_of(prompt.output),
    )
    # Only the template is looked at, and no folder.
    plain = msgspec.structs.replace(draft, images=[], images_folder="")
    judged = judge(plain, (), prompt.output)
    same = judged.template is not None and judged.template.to_dict() == prompt.template.to_dict()
    return draft if same and set(spec.sampling) <= FORM_SAMPLING else None


def _folder_of(images: ImageColumns) -> str:
    """Return the folder that was typed for pictures; "" if it is the table's own."""
    if not images.columns or images.within is None:
        return ""
    return "" if images.folder == source_of(None).folder else images.folder
