"""What the replies of a batch run are turned into: text, choices, numbers, dates, JSON.

Promises: `Output.parse` takes what a caller writes, says what makes the engine write replies like
that, which typed columns they become, and reads a reply into them, or says in plain words why it
cannot. What `to_dict` returns is plain JSON and all that makes an output, so a run's key can be
made of it. Leaves to others: one kind each to the files ``output_*.py``, the probabilities of
choices to `choices`, and whether a schema can be followed to the engine: `check_with` asks it.
"""

from __future__ import annotations

import datetime as dt
import difflib
import enum
import importlib
import json
import re
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gguf_widgets.batch import output_column, output_json, output_number, output_pattern
from gguf_widgets.batch.choices import (
    ChoiceProbabilities,
    choice_probabilities,
    token_certainty,
)
from gguf_widgets.batch.output_choice import as_choices
from gguf_widgets.batch.output_column import Column
from gguf_widgets.batch.output_date import DateKind
from gguf_widgets.batch.output_kind import Kind, UnfinishedError
from gguf_widgets.batch.output_number import NumberKind
from gguf_widgets.batch.output_text import TextKind
from gguf_widgets.core import request_events
from gguf_widgets.core.errors import InvalidValueError, OutputError
from gguf_widgets.core.schema_input import to_schema
from gguf_widgets.core.types import FinishReason, Reply

if TYPE_CHECKING:
    import pandas as pd

    from gguf_widgets.core.model import Model

__all__ = ["Column", "Output"]

_POSSIBLE = (
    "None (free text), a list of choices, Literal[...], an Enum, a JSON schema (dict), a pydantic"
    " model or a dataclass, bool, int, float, str, datetime.date, datetime.datetime, range(...),"
    " (low, high), or re.compile(...)"
)

Validator = Callable[[str], Any]


class Output:
    """What a reply is turned into. Make it by `parse`.

    Attributes
    ----------
    name : str
        The column's name where there is only one; parts of an object have their own.
    kind : str
        "text", "choice", "boolean", "number", "date", "datetime", "pattern" or "json".
    columns : tuple of Column
        In the order of the schema.
    sampling : dict
        The sampling keywords that make replies like this (see `SamplingSettings`): ``schema`` or
        ``grammar``, and ``logprobs`` for choices; empty for free text. A reply is drawn from what
        is allowed by the other settings: with temperature 0 it is the likeliest, token by token.
    choice_texts : tuple of str
        All that a reply can be, as texts, if that is a list: then `probabilities` are known.
    validate : callable or None
        The check of a pydantic model, dataclass or TypeAdapter that was given: it takes the reply's
        JSON text and raises what is wrong with it. Only its JSON schema goes into `to_dict`; so
        validators written in Python, which no schema holds, count only as long as the class is
        there. `with_validation` gives it back after `from_dict`. They accept or refuse; the columns
        hold what the model wrote, not what a validator made of it.
    """

    def __init__(self, kind: Kind, name: str, validate: Validator | None = None) -> None:
        self._kind = kind
        self.name = name
        self.validate = validate

    @classmethod
    def parse(cls, schema: Any = None, name: str = "reply") -> Output:
        r"""Return the output that a caller asks for.

        Parameters
        ----------
        schema
            One of these:

            - None or str: free text.
            - a list or tuple of texts, numbers, True and False, ``Literal[...]`` or an Enum class
              (by its values): one of these choices. A set is sorted, since it has no order.
            - bool, int, float, ``datetime.date``, ``datetime.datetime``.
            - ``range(1, 6)``: a whole number, without the end, as in Python. A tuple of two
              numbers, ``(1, 5)`` or ``(0.0, 1.0)``: a number between them, both included; whole if
              both are; None is no bound. (A list ``[1, 5]`` is two choices.)
            - ``re.compile(r"[A-Z]{2}\d+")`` or ``{"pattern": "..."}``: a text of which the whole
              matches. (Beside other keywords ``pattern`` is JSON Schema's, which may match
              anywhere.)
            - a dict: a JSON schema. An ``enum`` alone is the same as a list of choices.
            - a pydantic model class, a TypeAdapter, a dataclass, or a type such as ``list[str]``,
              which pydantic turns into a JSON schema.
        name : str, default "reply"

        Raises
        ------
        InvalidValueError
            For anything else, and for what no reply could be.
        """
        if isinstance(schema, Output):
            return schema
        if not isinstance(name, str) or not name:
            raise InvalidValueError(f"The name of a column is a text, not {name!r:.80}.")
        adapter = _adapter_of(schema)
        if adapter is not None:
            kind: Kind = output_json.from_schema(name, to_schema(adapter))
            return cls(kind, name, _validator_of(adapter))
        return cls(_kind_of(schema, name), name)

    @property
    def kind(self) -> str:
        """See the class."""
        return self._kind.kind

    @property
    def columns(self) -> tuple[Column, ...]:
        """See the class."""
        return self._kind.columns

    @property
    def sampling(self) -> dict[str, Any]:
        """See the class."""
        return dict(self._kind.sampling)

    @property
    def choice_texts(self) -> tuple[str, ...]:
        """See the class."""
        return self._kind.choice_texts

    def describe(self) -> str:
        """Say in a few words what a reply will be."""
        return self._kind.describe()

    # --- before a run ---

    def check_with(self, model: Model) -> None:
        """Ask the engine, before a run, whether replies can follow this at all.

        It writes one token. Only the worker, which has the engine, can tell: an empty range, a
        pattern with a reference back, a schema that contains itself without end.

        Raises
        ------
        UnsupportedSchemaError, GrammarError
            In the engine's own words, with the place in the schema.
        UnsupportedByModelError
            In demo mode, whose prepared answers follow nothing.
        """
        constraint = {key: value for key, value in self.sampling.items() if key != "logprobs"}
        if constraint:
            was = request_events.IS_CHECK.set(True)
            try:
                model.complete(" ", max_tokens=1, temperature=0.0, priority="batch", **constraint)
            finally:
                request_events.IS_CHECK.reset(was)

    # --- a reply ---

    def read(self, reply: Reply) -> dict[str, Any]:
        """Return the value of each column, as plain JSON; None where there is none.

        Days and times are texts in ISO's form; `to_series` makes them what pandas has.

        Raises
        ------
        OutputError
            If the reply was stopped or cut too early, or is not what was asked for.
        """
        if reply.finish_reason in (FinishReason.ABORTED, FinishReason.ERROR):
            raise OutputError("The reply was stopped before its end, so it is not used.")
        is_cut = reply.finish_reason is FinishReason.LENGTH
        try:
            value, found = self._kind.read(reply.text, complete=not is_cut)
        except UnfinishedError as error:
            num_tokens = reply.usage.num_completion_tokens
            raise OutputError(
                f"{str(error).removesuffix('.')}, after {num_tokens:,} tokens. Raise max_tokens"
                " if it was set so low; otherwise the context is full: load the model with a larger"
                " n_ctx, or shorten the prompt.",
                num_completion_tokens=num_tokens,
                reply=reply.text[:200],
            ) from error
        except OutputError as error:
            error.details.setdefault("reply", reply.text[:200])
            raise
        if self.validate is not None:
            self._check_besides(self.validate, value, reply)
        return found

    def _check_besides(self, validate: Validator, value: Any, reply: Reply) -> None:
        text = json.dumps(output_column.whole(value))
        try:
            validate(text)
        except Exception as error:  # whatever a validator of the caller's raises
            raise OutputError(
                "The reply follows the schema, and the validators of the model class refuse it:"
                f" {_reasons(error)}",
                reply=reply.text[:200],
            ) from error

    def probabilities(
        self, reply: Reply, scores: Iterable[Reply] = ()
    ) -> ChoiceProbabilities | None:
        """Return the probability of each choice; None if this is no choice.

        See `choices` for what they mean; `scores` are the replies to its further requests.
        """
        if not self.choice_texts or reply.logprobs is None:
            return None
        return choice_probabilities(self.choice_texts, reply, scores)

    def certainty(self, reply: Reply) -> float | None:
        """Return how certain the model was of a reply, from 0 to 1.

        Of a choice, the probability of the likeliest; of anything else the geometric mean of its
        tokens' probabilities, or None unless ``logprobs`` were asked for. The two kinds cannot be
        compared with each other.
        """
        found = self.probabilities(reply)
        if found is not None:
            return found.certainty
        return None if reply.logprobs is None else token_certainty(reply.logprobs)

    # --- a table ---

    def column(self, name: str) -> Column:
        """Return one column.

        Raises
        ------
        InvalidValueError
            If there is none of that name.
        """
        for column in self.columns:
            if column.name == name:
                return column
        names = [column.name for column in self.columns]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(names)[:200]}."
        raise InvalidValueError(f"This output has no column {name!r:.80}. {hint}", name=name)

    def to_series(self, name: str, values: Iterable[Any], index: Any = None) -> pd.Series[Any]:
        """Return a pandas Series of a column's type.

        Parameters
        ----------
        name : str
            Of the column.
        values : iterable
            What `read` returned for it, row by row; None for rows without a value.
        index : optional
            The Series' index.

        Returns
        -------
        pandas.Series
            Of type category (with all declared choices, in their order), Int64, Float64, boolean,
            datetime64[us], datetime64[us, UTC], string, or object.
        """
        return output_column.series(self.column(name), values, index)

    # --- as data ---

    def to_dict(self) -> dict[str, Any]:
        """Return all that makes this output as plain JSON; equal ones are equal. See `validate`."""
        return {"kind": self.kind, "name": self.name, **self._kind.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Output:
        """Make one from what `to_dict` returned.

        Raises
        ------
        InvalidValueError
            If it is not that.
        """
        try:
            kind, name = data["kind"], data["name"]
            return cls(_FROM_DICT[kind](name, data), name)
        except (KeyError, TypeError) as error:
            raise InvalidValueError(
                f"This is no description of an output: {data!r:.120}."
            ) from error

    def with_validation(self, schema: Any) -> Output:
        """Return the same output with the validators of a class, which `to_dict` does not keep.

        Raises
        ------
        InvalidValueError
            If the class's schema is another one.
        """
        other = Output.parse(schema, self.name)
        if other.to_dict() != self.to_dict():
            raise InvalidValueError(
                "The class does not have the schema that this output was made with. Begin a new run"
                " with it."
            )
        return Output(self._kind, self.name, other.validate)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Output) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # what it is made of can be changed

    def __repr__(self) -> str:
        return f"<Output {self.name!r}: {self.describe()}>"


_FROM_DICT: dict[str, Callable[[str, Mapping[str, Any]], Kind]] = {
    "text": lambda name, _: TextKind(name),
    "choice": lambda name, data: as_choices(name, data["choices"]),
    "boolean": lambda name, _: as_choices(name, [True, False]),
    "number": lambda name, data: NumberKind(
        name, data["whole"], data["low"], data["high"], data["step"]
    ),
    "date": lambda name, _: DateKind(name, "date"),
    "datetime": lambda name, _: DateKind(name, "datetime"),
    "pattern": lambda name, data: output_pattern.from_text(name, data["pattern"]),
    "json": lambda name, data: output_json.from_schema(name, data["schema"]),
}

_OF_TYPE: dict[Any, Callable[[str], Kind]] = {
    str: TextKind,
    bool: lambda name: as_choices(name, [True, False]),
    int: lambda name: NumberKind(name, whole=True),
    float: lambda name: NumberKind(name, whole=False),
    dt.date: lambda name: DateKind(name, "date"),
    dt.datetime: lambda name: DateKind(name, "datetime"),
}


def _kind_of(schema: Any, name: str) -> Kind:
    if schema is None:
        return TextKind(name)
    if isinstance(schema, type) and schema in _OF_TYPE:
        return _OF_TYPE[schema](name)
    if isinstance(schema, type) and issubclass(schema, enum.Enum):
        return as_choices(name, schema)
    if typing.get_origin(schema) is typing.Literal:
        return as_choices(name, typing.get_args(schema))
    if isinstance(schema, range):
        return output_number.from_range(name, schema)
    if isinstance(schema, re.Pattern):
        return output_pattern.from_compiled(name, schema)
    if isinstance(schema, tuple) and len(schema) == 2 and _is_bound(*schema):
        return output_number.from_pair(name, *schema)
    if isinstance(schema, set | frozenset):
        # A set has another order in each process, and the order is part of what a run is.
        return as_choices(name, sorted(schema, key=lambda one: (type(one).__name__, str(one))))
    if isinstance(schema, list | tuple):
        return as_choices(name, schema)
    if isinstance(schema, Mapping) and set(schema) == {"pattern"}:
        return output_pattern.from_text(name, schema["pattern"])
    if isinstance(schema, Mapping | bool):
        plain = to_schema(schema if isinstance(schema, bool) else dict(schema))
        return output_json.from_schema(name, plain)
    raise InvalidValueError(
        f"An output cannot be made of {schema!r:.80}. It can be {_POSSIBLE}.",
        value=repr(schema)[:80],
    )


def _is_bound(low: Any, high: Any) -> bool:
    """Whether two values are the ends of a number range: True and False are not."""
    given = [one for one in (low, high) if one is not None]
    return all(isinstance(one, int | float) and not isinstance(one, bool) for one in given)


def _adapter_of(schema: Any) -> Any:
    """Return what makes the JSON schema and checks values; None if this needs nobody."""
    if typing.get_origin(schema) is typing.Literal:
        return None
    if any(callable(getattr(schema, one, None)) for one in ("model_json_schema", "json_schema")):
        return schema
    is_class = isinstance(schema, type) and (
        hasattr(schema, "__dataclass_fields__") or typing.is_typeddict(schema)
    )
    if not is_class and typing.get_origin(schema) is None:
        return None
    try:
        make = importlib.import_module("pydantic").TypeAdapter
    except ImportError as error:
        raise InvalidValueError(
            f"The schema of {schema!r:.80} is made by pydantic, which is not installed here"
            f" ({sys.executable}). Install it with: pip install pydantic"
        ) from error
    try:
        return make(schema)
    except Exception as error:  # pydantic's own errors, which need not be there to be caught
        raise InvalidValueError(
            f"pydantic cannot make a schema of {schema!r:.80}: {error}"
        ) from error


def _validator_of(adapter: Any) -> Validator | None:
    found = getattr(adapter, "model_validate_json", None) or getattr(adapter, "validate_json", None)
    return found if callable(found) else None


def _reasons(error: Exception) -> str:
    """Return what a validator says; of pydantic's errors each place and its reason, no more."""
    listed = getattr(error, "errors", None)
    if not callable(listed):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, one['loc'])) or 'the whole'}: {one['msg']}" for one in listed()[:5]
    )
