"""What a person has set up for a batch run on the page, and what is wrong with it.

Promises: what a page sends is bounded and of the form below, or refused; each fault is told with
the field that it belongs to, in words; what is sound is turned into the keywords of
`BatchProcessor.prepare`. Nothing is asked of a model here. Leaves to others: the prompt of one row
(`_batch_preview`), the run (`batch_table`), the form itself (static/_batch_setup.js).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from gguf_widgets.batch.frame import check_names
from gguf_widgets.batch.missing import MissingRule
from gguf_widgets.batch.output import Output
from gguf_widgets.batch.spec import MAX_SAMPLES, Prompt, Spec
from gguf_widgets.batch.template import Template
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.types import SamplingSettings

__all__ = ["Answer", "AnswerColumn", "Draft", "Fix", "Judged", "draft_of", "draft_of_spec", "judge"]

_T = TypeVar("_T")
_Short = Annotated[str, msgspec.Meta(max_length=2000)]
_Long = Annotated[str, msgspec.Meta(max_length=1_000_000)]
_Choices = Annotated[list[_Short], msgspec.Meta(max_length=1000)]

ColumnKind = Literal["text", "choice", "integer", "number", "yesno", "date"]
AnswerKind = Literal["text", "choice", "yesno", "number", "columns", "schema", "kept"]


class AnswerColumn(msgspec.Struct, rename="camel"):
    """One column of an answer that has several."""

    name: _Short = ""
    kind: ColumnKind = "text"
    choices: _Choices = []


class Answer(msgspec.Struct, rename="camel"):
    """What an answer is. `kept` is that of a run which was made in Python and fits no form."""

    kind: AnswerKind = "text"
    choices: _Choices = []
    low: _Short = ""
    high: _Short = ""
    whole: bool = True
    columns: Annotated[list[AnswerColumn], msgspec.Meta(max_length=100)] = []
    schema: _Long = ""


class Draft(msgspec.Struct, rename="camel"):
    """All that the form holds; numbers as they were typed."""

    prompt: _Long = ""
    system: _Long = ""
    answer: Answer = msgspec.field(default_factory=Answer)
    missing: Literal["refuse", "skip", "empty", "with"] = "refuse"
    missing_text: _Short = ""
    n: _Short = "1"
    max_tokens: _Short = ""
    temperature: _Short = "0"
    title: _Short = ""


class Fix(msgspec.Struct, frozen=True):
    """A name that is not a column, and the column that was probably meant."""

    wrong: str
    right: str


class Judged(msgspec.Struct):
    """What a draft comes to.

    Attributes
    ----------
    faults : dict of str to str
        By field: "table", "prompt", "system", "answer", "missing", "n", "maxTokens",
        "temperature".
    fixes : list of Fix
    template : Template or None
    output : Output or None
    keywords : dict
        For `BatchProcessor.prepare`; only to be used if there are no faults.
    """

    faults: dict[str, str] = {}
    fixes: list[Fix] = []
    template: Template | None = None
    output: Output | None = None
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


def judge(draft: Draft, columns: Sequence[str], kept: Output | None = None) -> Judged:
    """Look for everything that can be wrong before a row is asked.

    Parameters
    ----------
    draft : Draft
    columns : sequence of str
        The table's; empty while there is no table, and then no column is called unknown.
    kept : Output, optional
        What ``answer.kind == "kept"`` stands for.
    """
    judged = Judged(faults={}, fixes=[], keywords={})
    _template(draft, columns, judged)
    _try(judged, "answer", lambda: _answer(draft.answer, kept, judged))
    rule: Any = draft.missing
    if draft.missing == "with":
        rule = {"with": draft.missing_text}
        if not draft.missing_text:
            judged.faults["missing"] = "Write the text that stands in for a missing value."
    judged.keywords["missing"] = rule
    n = _try(judged, "n", lambda: _whole(draft.n, "Answers for each row", 1, MAX_SAMPLES))
    judged.keywords["n"] = n or 1
    if draft.max_tokens.strip():
        most = _try(judged, "maxTokens", lambda: _whole(draft.max_tokens, "The longest answer", 1))
        if most is not None:
            judged.keywords["max_tokens"] = most
    temperature = _try(judged, "temperature", lambda: _number(draft.temperature, "Temperature"))
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
    source: Any = draft.prompt
    if system is not None:
        source = [
            {"role": "system", "content": system},
            {"role": "user", "content": draft.prompt},
        ]
    try:
        template = Template.parse(source)
    except InvalidValueError as error:
        _at_message(error, system is not None, judged)
        return
    judged.template = template
    judged.keywords |= {"prompt": draft.prompt, "system": system}
    if not columns:
        return
    try:
        template.check(columns)
    except InvalidValueError as error:
        unknown = set(error.details.get("unknown", ()))
        field = "prompt"
        if system is not None and unknown:
            only = set(Template.parse(draft.prompt, template.syntax).columns)
            field = "prompt" if unknown & only else "system"
        if unknown:
            judged.faults[field] = error.message
        else:
            _at_message(error, system is not None, judged)
        nearest: Mapping[str, str] = error.details.get("nearest", {})
        judged.fixes = [Fix(wrong, right) for wrong, right in nearest.items()]


def _at_message(error: InvalidValueError, has_system: bool, judged: Judged) -> None:
    """Tell a fault at the text that it is in; the words that say which are not needed there."""
    number = error.details.get("message_number")
    message = error.message
    for words in ("Message 1 (system): ", "Message 2 (user): "):
        message = message.removeprefix(words)
    field = "system" if has_system and number == 1 else "prompt"
    judged.faults[field] = message


# -- the answer ------------------------------------------------------------------------------------


def _answer(answer: Answer, kept: Output | None, judged: Judged) -> None:
    schema = kept if answer.kind == "kept" else _schema_of(answer)
    judged.output = Output.parse(schema)
    judged.keywords["schema"] = schema


def _schema_of(answer: Answer) -> Any:
    if answer.kind == "choice":
        return _choices(answer.choices, "this answer")
    if answer.kind == "yesno":
        return ["yes", "no"]
    if answer.kind == "number":
        return _range(answer)
    if answer.kind == "columns":
        return _object(answer.columns)
    if answer.kind == "schema":
        return _json(answer.schema)
    return None


def _choices(given: Sequence[str], what: str) -> list[str]:
    choices = [one.strip() for one in given if one.strip()]
    if len(choices) < 2:
        raise InvalidValueError(f"Write at least two choices for {what}, one on each line.")
    return choices


def _range(answer: Answer) -> Any:
    low = _number(answer.low, "The lowest number") if answer.low.strip() else None
    high = _number(answer.high, "The highest number") if answer.high.strip() else None
    if low is None and high is None:
        return int if answer.whole else float
    if low is not None and high is not None and low > high:
        raise InvalidValueError(
            f"The lowest number, {low:g}, is above the highest, {high:g}. Swap them."
        )
    for number in (low, high):
        if answer.whole and number is not None and not float(number).is_integer():
            raise InvalidValueError(
                f"{number:g} is not a whole number. Write one, or allow decimals."
            )
    kind = int if answer.whole else float
    return tuple(None if number is None else kind(number) for number in (low, high))


_KINDS: Final[dict[str, dict[str, str]]] = {
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "yesno": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
}


def _object(columns: Sequence[AnswerColumn]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for number, column in enumerate(columns, 1):
        name = column.name.strip()
        if not name:
            raise InvalidValueError(f"Column {number} has no name. Write one.")
        if name in properties:
            raise InvalidValueError(f'Two columns are called "{name:.60}". Rename one.')
        if column.kind == "choice":
            properties[name] = {"enum": _choices(column.choices, f'the column "{name:.60}"')}
        else:
            properties[name] = dict(_KINDS[column.kind])
    if not properties:
        raise InvalidValueError("Add a column: an answer needs at least one.")
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _json(text: str) -> dict[str, Any]:
    if not text.strip():
        raise InvalidValueError('Write a JSON schema, such as {"type": "object", ...}.')
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = ""
        if isinstance(error, json.JSONDecodeError):
            where = f" (line {error.lineno}, column {error.colno}: {error.msg})"
        raise InvalidValueError(f"The schema is not JSON{where}.") from error
    if not isinstance(schema, dict):
        raise InvalidValueError("A JSON schema is an object in braces: { ... }.")
    return schema


# -- numbers ---------------------------------------------------------------------------------------


def _number(text: str, what: str) -> float:
    try:
        value = float(text.strip().replace(",", ".") if text.count(",") == 1 else text.strip())
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidValueError(f'{what} is "{text.strip():.40}", which is not a number.')
    return value


def _whole(text: str, what: str, low: int, high: int = 10_000_000) -> int:
    value = _number(text, what)
    if not value.is_integer() or not low <= value <= high:
        raise InvalidValueError(f"{what} must be a whole number from {low:,} to {high:,}.")
    return int(value)


# -- back from a run -------------------------------------------------------------------------------


def draft_of_spec(spec: Spec, title: str = "") -> Draft | None:
    """Return the form that asks the same; None if a run cannot be asked by the form."""
    if len(spec.prompts) != 1:
        return None
    prompt = spec.prompts[0]
    messages = prompt.template.messages
    roles = [message["role"] for message in messages]
    if roles not in (["user"], ["system", "user"]):
        return None
    draft = Draft(
        prompt=messages[-1]["content"],
        system=messages[0]["content"] if len(messages) == 2 else "",
        missing=spec.missing.action,
        missing_text=spec.missing.text,
        n=str(spec.num_samples),
        temperature=f"{spec.sampling.get('temperature', 0.0):g}",
        max_tokens=str(spec.sampling.get("max_tokens") or ""),
        title=title,
        answer=_answer_of(prompt.output),
    )
    judged = judge(draft, (), prompt.output)
    same = judged.template is not None and judged.template.to_dict() == prompt.template.to_dict()
    known = {"temperature", "max_tokens"}
    return draft if same and set(spec.sampling) <= known else None


def _answer_of(output: Output) -> Answer:
    told = output.to_dict()
    answer = Answer(kind="kept")
    if output.kind == "text":
        answer = Answer()
    elif output.kind == "choice" and all(isinstance(one, str) for one in told["choices"]):
        is_yes_no = told["choices"] == ["yes", "no"]
        answer = Answer(kind="yesno") if is_yes_no else Answer("choice", list(told["choices"]))
    elif output.kind == "number" and told["step"] == 1:
        low, high = ("" if told[one] is None else f"{told[one]}" for one in ("low", "high"))
        answer = Answer(kind="number", low=low, high=high, whole=told["whole"])
    elif output.kind == "json" and isinstance(told.get("schema"), dict):
        answer = Answer(kind="schema", schema=json.dumps(told["schema"], indent=2))
    try:
        if answer.kind != "kept" and Output.parse(_schema_of(answer)).to_dict() == told:
            return answer
    except GgufWidgetsError:
        return Answer(kind="kept")  # nothing of the form makes the same
    return Answer(kind="kept")
