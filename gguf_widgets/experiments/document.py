"""An experiment as a JSON file: written in one form, and judged when it is read.

Promises: the same record is written as the same values, with fingerprints (SHA-256) of its parts,
of each item's parts and of the whole, over JSON with sorted keys and no spaces; a file that was
changed by hand is noticed, and where; one of a newer version, a damaged or hostile one is refused
in words and costs no more memory than `MAX_BYTES` of text takes. Leaves to others: what values mean
(`values`), whether they can be done again (`replay`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
from pathlib import Path
from typing import Any, Final

import msgspec

from gguf_widgets.batch.spec import Spec
from gguf_widgets.batch.table_rows import decoded
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.json_outside import no_constant, plain
from gguf_widgets.core.plain_files import read_bounded
from gguf_widgets.core.request_events import Prompt
from gguf_widgets.core.settings import SamplingSettings, current_names
from gguf_widgets.core.store.batch_types import Shape
from gguf_widgets.experiments.values import ComparisonItem, Item, Record, RequestItem, RunItem

__all__ = [
    "FORMAT",
    "MAX_BYTES",
    "VERSION",
    "Judged",
    "digest_of_record",
    "judged",
    "kept_form",
    "prompt_of",
    "read_file",
    "sampling_of",
    "shape_of",
    "to_plain",
    "write_file",
]

FORMAT: Final = "gguf-widgets-experiment"
VERSION: Final = 1
MAX_BYTES: Final = 512 * 2**20
"""The longest file that is read; an answer takes about a kilobyte."""

_DIGEST: Final = "digest"
_WHOLE: Final = "whole"
_MAX_MODELS: Final = 1000
_MAX_ITEMS: Final = 1_000_000
_ID: Final = re.compile(r"[0-9a-f]{32}")
_SHOWN: Final = 5


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A record that was read, and what its fingerprints tell.

    Attributes
    ----------
    record : Record
    digest : str
        The whole's fingerprint, as it is now.
    changed : dict of int to tuple of str
        The items, from 0, that are not as they were saved, and which of their parts.
    altered : str
        What was changed after it was saved, as a sentence; "" if nothing was.
    """

    record: Record
    digest: str = ""
    changed: dict[int, tuple[str, ...]] = {}
    altered: str = ""


def write_file(path: str | os.PathLike[str], record: Record) -> Path:
    """Write a record, entirely or not at all, and return where it is.

    Raises
    ------
    InvalidValueError
        It cannot be written there; what was there before is untouched.
    """
    target = Path(path).expanduser()
    lines = _lines(record)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with beside.open("w", encoding="ascii", newline="\n") as file:
            file.writelines(lines)
        beside.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise InvalidValueError(
            f"The experiment could not be written to {plain_text(str(target), 200)}: "
            f"{error.strerror or error}. Choose another place.",
            path=str(target),
        ) from error
    return target


def read_file(path: str | os.PathLike[str]) -> Judged:
    """Read and judge a file.

    Raises
    ------
    InvalidValueError
        It is not there, too large, damaged, no experiment, or of a newer version.
    """
    target = Path(path).expanduser()
    shown = plain_text(str(target), 200)
    try:
        size = target.stat().st_size
        if size > MAX_BYTES:
            raise InvalidValueError(
                f"{shown} has {format_bytes(size)}; an experiment's file can have "
                f"{format_bytes(MAX_BYTES)} at most.",
                path=str(target),
                limit=MAX_BYTES,
            )
        data = read_bounded(target, MAX_BYTES)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        if isinstance(error, InvalidValueError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InvalidValueError(f"{shown} cannot be read: {reason}.", path=str(target)) from error
    try:
        document = json.loads(data, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        reason = plain_text(str(error), 120) or type(error).__name__
        raise InvalidValueError(
            f"{shown} is no JSON, or is damaged: {reason}.", path=str(target)
        ) from error
    try:
        return judged(document)
    except InvalidValueError as error:
        raise InvalidValueError(f"{shown}: {error.message}", path=str(target)) from error


def kept_form(value: Record | Item) -> dict[str, Any]:
    """Return a record without its items, or an item, as the store keeps it: with no fingerprint."""
    plain = to_plain(value)
    if not isinstance(value, Record):
        return dict(plain)
    return {"format": FORMAT, "version": VERSION, **{k: plain[k] for k in plain if k != "items"}}


def judged(document: Any, *, is_sealed: bool = True) -> Judged:
    """Return the record in parsed JSON, and whether it is as it was saved.

    Parameters
    ----------
    document
        Values of JSON, from anywhere.
    is_sealed : bool, default True
        Whether it should have fingerprints; what is kept in the store has none.

    Raises
    ------
    InvalidValueError
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InvalidValueError("This is no experiment of gguf-widgets.")
    version = document.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise InvalidValueError(f"Its version is {version!r:.40}; it should be a number from 1.")
    if version > VERSION:
        raise InvalidValueError(
            f"This experiment is from a newer version of gguf-widgets (its form is "
            f"{version!s:.12}; this version knows {VERSION}). Update gguf-widgets to replay it.",
            version=min(version, 2**53),
            limit=VERSION,
        )
    items = document.get("items")
    if not isinstance(items, list) or len(items) > _MAX_ITEMS:
        raise InvalidValueError(f"Its items are no list of at most {_MAX_ITEMS:,}.")
    changed = {n: parts for n, item in enumerate(items) if (parts := _changed_in(item))}
    seal = _mapping(document.get(_DIGEST))
    now = _seal(document)
    others = tuple(
        name for name in now if name not in ("items", _WHOLE) and _is_other(seal, now, name)
    )
    whole = seal.get(_WHOLE) == now[_WHOLE]
    known = {key: document[key] for key in document if key not in ("format", "version", _DIGEST)}
    record = _converted({**known, "items": [_bare(item) for item in items]})
    _check(record)
    return Judged(
        record=record,
        digest=now[_WHOLE],
        changed=changed if is_sealed else {},
        altered=""
        if (whole and not changed) or not is_sealed
        else _altered(changed, others, len(items)),
    )


def prompt_of(given: dict[str, Any]) -> Prompt:
    """Return a recorded prompt as it goes to a model.

    Raises
    ------
    InvalidValueError
        It is none.
    """
    names = set(Prompt.__struct_fields__)
    unknown = sorted(str(name) for name in given if name not in names)
    if unknown:
        raise InvalidValueError(
            f"A recorded prompt has a part that this version does not know: {unknown[0]!r:.40}."
        )
    try:
        prompt = msgspec.convert(given, Prompt)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidValueError(f"A recorded prompt cannot be read: {error}.") from error
    prompt.check()
    return prompt


def sampling_of(given: dict[str, Any]) -> SamplingSettings:
    """Return recorded sampling settings.

    Raises
    ------
    InvalidValueError
        One is not known, of another kind, or out of range.
    """
    try:
        # Not strict: "-inf" is a number here, and JSON's keys are texts.
        found = msgspec.convert(current_names(given), SamplingSettings, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidValueError(
            f"A recorded setting cannot be read: {plain_text(str(error), 120)}."
        ) from error
    found.check()
    return found


# -- writing ---------------------------------------------------------------------------------------


def digest_of_record(record: Record) -> str:
    """Return the fingerprint of a whole record."""
    return _seal(_document(record))[_WHOLE]


def _document(record: Record) -> dict[str, Any]:
    document: dict[str, Any] = {"format": FORMAT, "version": VERSION, **to_plain(record)}
    document["items"] = [{**item, _DIGEST: _parts_of(item)} for item in document["items"]]
    return document


def _lines(record: Record) -> list[str]:
    """Return the file's lines: one for each part, and one for each item."""
    document = _document(record)
    seal = _seal(document)
    items = document.pop("items")
    head = [f"{json.dumps(name)}: {_canonical(value)},\n" for name, value in document.items()]
    last = len(items) - 1
    listed = [f"{_canonical(item)}{'' if n == last else ','}\n" for n, item in enumerate(items)]
    return [
        "{\n",
        *head,
        '"items": [\n',
        *listed,
        "],\n",
        f'"{_DIGEST}": {_canonical(seal)}\n',
        "}\n",
    ]


def to_plain(value: Any) -> Any:
    """Return values as JSON has them; an infinity as its name."""
    return _finite(msgspec.to_builtins(value))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


# -- fingerprints ----------------------------------------------------------------------------------


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(value: Any) -> str:
    try:
        return f"sha256:{hashlib.sha256(_canonical(value).encode('ascii')).hexdigest()}"
    except RecursionError as error:
        raise InvalidValueError("It is nested too deeply.") from error
    except ValueError as error:  # 1e999, which Python reads as infinite
        raise InvalidValueError("It holds a number that is none.") from error


def _seal(document: dict[str, Any]) -> dict[str, str]:
    """Return the fingerprints of a document's parts and of the whole."""
    items = document["items"]
    parts = {
        key: _digest(value) for key, value in document.items() if key not in ("items", _DIGEST)
    }
    parts["items"] = _digest([_parts_of(_bare(item)) for item in items])
    return {**parts, _WHOLE: _digest(parts)}


def _parts_of(item: Any) -> Any:
    """Return the fingerprints of an item's parts."""
    if not isinstance(item, dict):
        return _digest(item)
    return {str(key): _digest(value) for key, value in item.items()}


def _changed_in(item: Any) -> tuple[str, ...]:
    """Return the parts of an item that are not as they were saved."""
    then = _mapping(_digest_in(item))
    now = _mapping(_parts_of(_bare(item)))
    return tuple(sorted(name for name in {*then, *now} if _is_other(then, now, name)))


def _is_other(then: dict[str, Any], now: dict[str, Any], name: str) -> bool:
    return then.get(name) != now.get(name)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _digest_in(value: Any) -> Any:
    return value.get(_DIGEST) if isinstance(value, dict) else None


def _bare(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    return {key: value for key, value in item.items() if key != _DIGEST}


def _altered(changed: dict[int, tuple[str, ...]], others: tuple[str, ...], num_items: int) -> str:
    """Say what was changed after a record was saved."""
    named = [
        f"item {number + 1:,} ({', '.join(plain_text(part, 30) for part in parts[:_SHOWN])})"
        for number, parts in list(changed.items())[:_SHOWN]
    ]
    if len(changed) > _SHOWN:
        named.append(f"{len(changed) - _SHOWN:,} more of its {num_items:,} items")
    named += [plain_text(name, 30) for name in others[:_SHOWN]]
    if not named:
        named = ["which items there are, or their order"]
    return f"This record was changed after it was saved: {', '.join(named)}."


# -- judging ---------------------------------------------------------------------------------------


def _converted(document: dict[str, Any]) -> Record:
    try:
        # Half characters and endless nesting out, before anything walks through it.
        return msgspec.convert(plain(document), Record)
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        raise InvalidValueError(
            f"It cannot be read: {plain_text(str(error), 200)}.",
        ) from error


def _check(record: Record) -> None:
    if _ID.fullmatch(record.id) is None:
        raise InvalidValueError(f"Its id is {record.id!r:.60}; it should be 32 digits of 0-9a-f.")
    if len(record.models) > _MAX_MODELS:
        raise InvalidValueError(f"It names {len(record.models):,} models; at most {_MAX_MODELS:,}.")
    for number, item in enumerate(record.items, 1):
        try:
            _check_item(record, item)
        except InvalidValueError as error:
            raise InvalidValueError(f"Item {number:,}: {error.message}") from error


def _check_item(record: Record, item: Item) -> None:
    if isinstance(item, ComparisonItem):
        return
    for model in item.models if isinstance(item, RunItem) else [item.model]:
        if not 0 <= model < len(record.models):
            raise InvalidValueError(f"It names model {model!r:.20}, and there is no such one.")
    sampling_of(item.sampling)
    if isinstance(item, RequestItem):
        prompt_of(item.prompt)
    else:
        _check_run(item)


def _check_run(item: RunItem) -> None:
    try:
        spec = Spec.from_dict(item.spec)
    except GgufWidgetsError as error:
        raise InvalidValueError(error.message) from error
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidValueError(
            f"What the run asks cannot be read: {plain_text(repr(error), 120)}."
        ) from error
    if len(spec.models) != len(item.models) or len(spec.models) != len(item.templates):
        raise InvalidValueError("The run's models are not those that it names.")
    if not spec.prompts:
        raise InvalidValueError("The run asks nothing.")
    if any(len(row) != len(item.columns) for row in item.rows):
        raise InvalidValueError("A row of the run has not as many values as there are columns.")
    _check_table(item)
    shape = shape_of(item, spec)
    numbers = [answer.number for answer in item.answers]
    if len(set(numbers)) != len(numbers) or any(not 0 <= n < shape.num_tasks for n in numbers):
        raise InvalidValueError("The run's answers are not one for each row.")


def _check_table(item: RunItem) -> None:
    """Refuse a table with values that are none: they would stop a run in the middle."""
    try:
        for column in item.columns:
            if not isinstance(decoded(column["name"]), str | int | float | bool | list | None):
                raise TypeError(f"a column is called {column['name']!r:.60}")  # noqa: TRY301
            if not isinstance(column.get("dtype", ""), str):
                raise TypeError(f"a column's type is {column['dtype']!r:.60}")  # noqa: TRY301
        for row in item.rows:
            for value in row:
                decoded(value, as_file=True)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InvalidValueError(
            f"The run's table cannot be read: {plain_text(repr(error), 120)}."
        ) from error


def shape_of(item: RunItem, spec: Spec) -> Shape:
    """Return how many rows, prompts, models and samples a recorded run has."""
    return Shape(
        num_rows=len(item.rows),
        num_prompts=len(spec.prompts),
        num_models=len(spec.models),
        num_samples=spec.num_samples,
    )
