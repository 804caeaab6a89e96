"""A Python annotation as JSON: the schema of what it accepts, and the way back to Python's values.

Promises: what `Kind.schema` accepts, `Kind.take` turns into a value of the annotation, or refuses
in words that name the place; an annotation that cannot be described is refused at once, by name.
Leaves to others: whole functions (`toolbox`), what a model can be held to (`engine.grammar`).

What can be described: ``str``, ``int``, ``float``, ``bool``, ``None``, ``Any``, ``Literal``,
enums, ``Optional`` and unions, lists, sets, tuples, dicts with names as keys, TypedDict,
NamedTuple, dataclasses, pydantic models, dates and times, paths, ``NewType``, and ``Annotated``
with a text (its description) or with limits as pydantic and annotated-types write them.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.schema_input import to_schema
from gguf_widgets.core.tools.kinds import (
    COLLECTIONS,
    MAPPINGS,
    PLAIN,
    Kind,
    a_list,
    an_object,
    limited,
    limits,
    of_enum,
    one_of,
    plain_default,
    spread,
    type_name,
)

__all__ = ["Describing"]

_MAX_DEPTH = 20
_SHOWN = 60


class Describing:
    """Turns the annotations of one function into schemas.

    Attributes
    ----------
    definitions : dict
        Schemas that others refer to as ``#/$defs/NAME``.
    """

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}
        self._open: list[Any] = []

    def kind(self, annotation: Any, where: str) -> Kind:
        """Describe an annotation.

        Raises
        ------
        InvalidValueError
            It cannot be described; the message begins with `where`.
        """
        if len(self._open) >= _MAX_DEPTH:
            raise InvalidValueError(
                f"{where} is nested more than {_MAX_DEPTH} levels deep. Use a simpler type."
            )
        self._open.append(annotation)
        try:
            return self._kind(annotation, where)
        finally:
            self._open.pop()

    def _kind(self, annotation: Any, where: str) -> Kind:
        if annotation is None:
            annotation = type(None)
        plain = PLAIN.get(annotation) if isinstance(annotation, collections.abc.Hashable) else None
        if plain is not None:
            return plain
        supertype = getattr(annotation, "__supertype__", None)  # NewType
        if supertype is not None:
            return self.kind(supertype, where)
        if type(annotation).__name__ == "TypeAliasType":  # `type Name = ...`, from Python 3.12 on
            return self.kind(annotation.__value__, where)
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            return self._annotated(annotation, where)
        if origin in (typing.Required, typing.NotRequired) or str(origin) == "typing.ReadOnly":
            return self.kind(typing.get_args(annotation)[0], where)
        if origin is typing.Literal:
            return one_of(list(typing.get_args(annotation)), where)
        if origin in (typing.Union, types.UnionType):
            return self._union(typing.get_args(annotation), where)
        if isinstance(origin or annotation, type):
            return self._of_class(annotation, origin, where)
        raise _cannot(where, annotation)

    def _of_class(self, annotation: Any, origin: Any, where: str) -> Kind:
        made = origin or annotation
        arguments = typing.get_args(annotation)
        if made is tuple:
            return self._tuple(arguments, where)
        if made in COLLECTIONS:
            return self._collection(arguments, where, COLLECTIONS[made])
        if made in MAPPINGS:
            return self._mapping(arguments, where)
        if any(known is annotation for known in self._open[:-1]):
            raise InvalidValueError(
                f"{where} is {type_name(annotation)}, which contains itself; that cannot be"
                " described here. A pydantic model can."
            )
        if issubclass(made, enum.Enum):
            return of_enum(made, where)
        if callable(getattr(made, "model_json_schema", None)):
            return self._pydantic(made, where)
        if typing.is_typeddict(made):
            return self._typed_dict(made, where)
        if dataclasses.is_dataclass(made):
            return self._dataclass(made, where)
        if issubclass(made, tuple) and hasattr(made, "_fields"):
            return self._named_tuple(made, where)
        raise _cannot(where, annotation)

    # -- made of others ---------------------------------------------------------------------------

    def _annotated(self, annotation: Any, where: str) -> Kind:
        base, *notes = typing.get_args(annotation)
        kind = self.kind(base, where)
        added: dict[str, Any] = {}
        for note in spread(notes):
            words = note if isinstance(note, str) else getattr(note, "description", None)
            words = words or getattr(note, "documentation", None)
            if isinstance(words, str) and words.strip():
                added["description"] = words.strip()
            if not isinstance(note, str):
                added |= limits(note, kind.schema)
        return limited(kind, added)

    def _union(self, options: Iterable[Any], where: str) -> Kind:
        kinds = [self.kind(option, where) for option in options]

        def take(value: Any, place: str) -> Any:
            problems = []
            for kind in kinds:
                try:
                    return kind.take(value, place)
                except InvalidValueError as error:
                    problems.append(error.message)
            raise InvalidValueError(f"{place} fits none of its types: {' / '.join(problems)}"[:600])

        return Kind({"anyOf": [kind.schema for kind in kinds]}, take)

    def _tuple(self, arguments: tuple[Any, ...], where: str) -> Kind:
        if not arguments or (len(arguments) == 2 and arguments[1] is Ellipsis):
            return self._collection(arguments[:1], where, tuple)
        arguments = () if arguments == ((),) else arguments
        kinds = [self.kind(item, f"item {n} of {where}") for n, item in enumerate(arguments, 1)]

        def take(value: Any, place: str) -> Any:
            items = a_list(value, place)
            if len(items) != len(kinds):
                raise InvalidValueError(
                    f"{place} must have {len(kinds)} items; it has {len(items)}."
                )
            return tuple(
                kind.take(item, f"item {n} of {place}")
                for n, (kind, item) in enumerate(zip(kinds, items, strict=True), 1)
            )

        size = {"minItems": len(kinds), "maxItems": len(kinds)}
        return Kind({"type": "array", "prefixItems": [kind.schema for kind in kinds], **size}, take)

    def _collection(
        self, arguments: tuple[Any, ...], where: str, make: Callable[[list[Any]], Any]
    ) -> Kind:
        item = self.kind(arguments[0] if arguments else Any, f"an item of {where}")

        def take(value: Any, place: str) -> Any:
            items = a_list(value, place)
            try:
                return make([item.take(one, f"item {n} of {place}") for n, one in enumerate(items)])
            except TypeError as error:  # a set of lists
                raise InvalidValueError(f"{place} cannot be a set: {error}.") from error

        schema: dict[str, Any] = {"type": "array"}
        return Kind({**schema, "items": item.schema} if item.schema else schema, take)

    def _mapping(self, arguments: tuple[Any, ...], where: str) -> Kind:
        key, held = arguments if len(arguments) == 2 else (str, Any)
        if key is not str:
            raise InvalidValueError(
                f"{where} is a dict with keys of {type_name(key)}; in JSON they are texts. Write"
                " dict[str, ...]."
            )
        kind = self.kind(held, f"a value of {where}")

        def take(value: Any, place: str) -> Any:
            return {
                name: kind.take(one, f"{name!r:.{_SHOWN}} of {place}")
                for name, one in an_object(value, place).items()
            }

        schema: dict[str, Any] = {"type": "object"}
        return Kind({**schema, "additionalProperties": kind.schema or True}, take)

    # -- classes ----------------------------------------------------------------------------------

    def _typed_dict(self, made: Any, where: str) -> Kind:
        hints = _hints(made, where)
        fields = {name: self.kind(hint, f"{name!r} of {where}") for name, hint in hints.items()}
        needed = set(made.__required_keys__)
        for name, hint in hints.items():
            # Where annotations are kept as text, Python itself does not see these words.
            if typing.get_origin(hint) is typing.NotRequired:
                needed.discard(name)
            elif typing.get_origin(hint) is typing.Required:
                needed.add(name)
        return _object(fields, needed, dict, {})

    def _dataclass(self, made: Any, where: str) -> Kind:
        hints = _hints(made, where)
        fields, needed, defaults = {}, set(), {}
        for field in dataclasses.fields(made):
            if not field.init:
                continue
            fields[field.name] = self.kind(hints[field.name], f"{field.name!r} of {where}")
            if field.default is not dataclasses.MISSING:
                defaults[field.name] = field.default
            elif field.default_factory is dataclasses.MISSING:
                needed.add(field.name)
        return _object(fields, needed, made, defaults)

    def _named_tuple(self, made: Any, where: str) -> Kind:
        hints = _hints(made, where)
        bare = [name for name in made._fields if name not in hints]
        if bare:
            raise InvalidValueError(f"{where}: {bare[0]!r} of {type_name(made)} has no annotation.")
        fields = {name: self.kind(hints[name], f"{name!r} of {where}") for name in made._fields}
        defaults = made._field_defaults
        return _object(fields, set(made._fields) - set(defaults), made, defaults)

    def _pydantic(self, made: Any, where: str) -> Kind:
        schema = to_schema(made)
        if not isinstance(schema, dict):
            raise _cannot(where, made)
        for name, one in schema.pop("$defs", {}).items():
            if self.definitions.setdefault(name, one) != one:
                raise InvalidValueError(f"{where}: two different classes are called {name!r}.")

        def take(value: Any, place: str) -> Any:
            try:
                return made.model_validate(value)
            except Exception as error:  # pydantic's own, or one of the class's validators
                raise InvalidValueError(f"{place}: {error}"[:1000]) from error

        return Kind(schema, take)


def _object(
    fields: Mapping[str, Kind], needed: set[str], make: Any, defaults: Mapping[str, Any]
) -> Kind:
    properties = {}
    for name, kind in fields.items():
        default = plain_default(defaults[name]) if name in defaults else None
        properties[name] = {**kind.schema, **(default or {})}

    def take(value: Any, place: str) -> Any:
        given = an_object(value, place)
        for name in given:
            if name not in fields:
                raise InvalidValueError(f"{place} has {name!r:.{_SHOWN}}, which is not known.")
        for name in fields:
            if name in needed and name not in given:
                raise InvalidValueError(f"{place} lacks {name!r}.")
        taken = {
            name: fields[name].take(one, f"{name!r} of {place}") for name, one in given.items()
        }
        try:
            return make(**taken)
        except Exception as error:  # the class's own check (__post_init__)
            raise InvalidValueError(f"{place}: {type(error).__name__}: {error}"[:600]) from error

    return Kind(
        {
            "type": "object",
            "properties": properties,
            "required": [name for name in fields if name in needed],
            "additionalProperties": False,
        },
        take,
    )


def _hints(made: Any, where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(made, include_extras=True)
    except Exception as error:  # a name that does not exist, in text that anybody wrote
        raise InvalidValueError(
            f"{where}: the annotations of {type_name(made)} cannot be read: {error}."
        ) from error


def _cannot(where: str, annotation: Any) -> InvalidValueError:
    return InvalidValueError(
        f"{where} is annotated as {type_name(annotation)}, which cannot be described to a model."
        " Use str, int, float, bool, Literal, an Enum, list, dict[str, ...], a TypedDict, a"
        " dataclass or a pydantic model.",
        annotation=type_name(annotation),
    )
