"""What an answer of a batch run is, as a form has it, and the schema that it stands for.

Promises: what was filled in wrongly is told in words; a run's output becomes a form only if that
form stands for the very same. Leaves to others: the rest of the form (`_batch_draft`), its look
(static/_batch_answer.js).
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

import msgspec

from gguf_widgets.batch.output import Output
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.widgets._schema_form import Line, choices_of, object_schema, parsed_schema

__all__ = [
    "Answer",
    "AnswerColumn",
    "Long",
    "Short",
    "answer_of",
    "number_of",
    "schema_of",
    "whole_of",
]

Short = Annotated[str, msgspec.Meta(max_length=2000)]
Long = Annotated[str, msgspec.Meta(max_length=1_000_000)]
_Choices = Annotated[list[Short], msgspec.Meta(max_length=1000)]

ColumnKind = Literal["text", "choice", "integer", "number", "yesno", "date"]
AnswerKind = Literal["text", "choice", "yesno", "number", "columns", "schema", "kept"]


class AnswerColumn(msgspec.Struct, rename="camel"):
    """One column of an answer that has several."""

    name: Short = ""
    kind: ColumnKind = "text"
    choices: _Choices = []


class Answer(msgspec.Struct, rename="camel"):
    """What an answer is. `kept` is that of a run which was made in Python and fits no form."""

    kind: AnswerKind = "text"
    choices: _Choices = []
    low: Short = ""
    high: Short = ""
    whole: bool = True
    columns: Annotated[list[AnswerColumn], msgspec.Meta(max_length=100)] = []
    schema: Long = ""


def schema_of(answer: Answer) -> Any:
    """Return what `Output.parse` takes for an answer that is not `kept`.

    Raises
    ------
    InvalidValueError
        Something of it is missing or wrong.
    """
    if answer.kind == "choice":
        return choices_of(answer.choices, "this answer")
    if answer.kind == "yesno":
        return ["yes", "no"]
    if answer.kind == "number":
        return _range(answer)
    if answer.kind == "columns":
        lines = (Line(one.name, one.kind, one.choices) for one in answer.columns)
        return object_schema(lines, "column")
    if answer.kind == "schema":
        return parsed_schema(answer.schema)
    return None


def _range(answer: Answer) -> Any:
    low = number_of(answer.low, "The lowest number") if answer.low.strip() else None
    high = number_of(answer.high, "The highest number") if answer.high.strip() else None
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


# -- numbers ---------------------------------------------------------------------------------------


def number_of(text: str, what: str) -> float:
    """Read a number that was typed; `what` is what it is called in an error."""
    try:
        value = float(text.strip().replace(",", ".") if text.count(",") == 1 else text.strip())
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidValueError(f'{what} is "{text.strip():.40}", which is not a number.')
    return value


def whole_of(text: str, what: str, low: int, high: int = 10_000_000) -> int:
    """Read a whole number from `low` to `high` that was typed."""
    value = number_of(text, what)
    if not value.is_integer() or not low <= value <= high:
        raise InvalidValueError(f"{what} must be a whole number from {low:,} to {high:,}.")
    return int(value)


# -- back from a run -------------------------------------------------------------------------------


def answer_of(output: Output) -> Answer:
    """Return the form that stands for the very same; `kept` if none does."""
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
        if answer.kind != "kept" and Output.parse(schema_of(answer)).to_dict() == told:
            return answer
    except GgufWidgetsError:
        return Answer(kind="kept")  # nothing of the form makes the same
    return Answer(kind="kept")
