"""JSON schemas at random: every keyword that a grammar can follow, in every combination.

Not a test: import it as ``from support.random_schemas import random_schema``.
"""

from __future__ import annotations

import random
from typing import Any

_NAMES = ("a", "b", "name", "nam", "kind", 'q"t', "é", "x y")
_PATTERNS = (
    "^[a-z]{1,4}$", "[0-9]", "^a", "z$", r"^\d{2}-\d{2}$", "^(yes|no)$", r"\S", "^[^a]*$", "^x?y+$",
    r"^(?!a)[ab]{2}$", "^.{2,5}$", r'^"\\?$',
)  # fmt: skip
_FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email", "duration", "unknown-format")
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2.5, "a", "ab", "", "é\n", [], [1, "a"], {}, {"a": 1}, {"b":
    [None]},
)  # fmt: skip
_TYPES = ("null", "boolean", "integer", "number", "string", "object", "array")


def random_schema(rng: random.Random, depth: int = 3) -> dict[str, Any]:
    """Return a schema with some definitions that refer to each other."""
    names = [f"d{number}" for number in range(rng.randrange(3))]
    schema = _schema(rng, depth, names)
    if not isinstance(schema, dict):
        schema = {"anyOf": [schema, {"type": "null"}]}
    if names:
        schema["$defs"] = {name: _schema(rng, depth - 1, names) for name in names}
    return schema


def flat_schema(rng: random.Random) -> dict[str, Any]:
    """Return a schema of one level without a format, of which jsonschema knows all values."""
    schema = _flat(rng)
    schema.pop("format", None)
    return schema


def object_schema(rng: random.Random) -> dict[str, Any]:
    """Return a schema of objects whose properties are flat, where the style leaves no choice."""
    schema = _object(rng, 1, [])
    for name in schema.get("properties", {}):
        schema["properties"][name] = flat_schema(rng)
    for keyword in ("dependentSchemas", "dependentRequired", "unevaluatedProperties"):
        schema.pop(keyword, None)
    simple: tuple[Any, ...] = ({"type": "integer"}, {"type": "string"}, {"type": "null"})
    if isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = rng.choice(simple)
    for pattern in schema.get("patternProperties", {}):
        schema["patternProperties"][pattern] = rng.choice(simple)
    return schema


def _schema(rng: random.Random, depth: int, names: list[str]) -> dict[str, Any] | bool:
    kind = rng.random()
    if kind < 0.03:
        return rng.random() < 0.8
    if names and kind < 0.15:
        return {"$ref": f"#/$defs/{rng.choice(names)}"}
    if depth <= 0 or kind < 0.5:
        return _flat(rng)
    if kind < 0.75:
        return _object(rng, depth, names)
    if kind < 0.85:
        return _array(rng, depth, names)
    return _combined(rng, depth, names)


def _flat(rng: random.Random) -> dict[str, Any]:
    kind = rng.choice(("null", "boolean", "integer", "number", "string", "enum", "const", "types"))
    if kind == "enum":
        return {"enum": rng.sample(_VALUES, rng.randrange(1, 5))}
    if kind == "const":
        return {"const": rng.choice(_VALUES)}
    if kind == "types":
        schema: dict[str, Any] = {"type": rng.sample(_TYPES, rng.randrange(1, 4))}
    else:
        schema = {"type": kind}
    if kind in ("integer", "number", "types"):
        schema |= _bounds(rng)
    if kind in ("string", "types"):
        schema |= _text(rng)
    return schema


def _bounds(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rng.random() < 0.4:
        found[rng.choice(("minimum", "exclusiveMinimum"))] = rng.choice((0, -7, 3, 1.5, -0.25, 100))
    if rng.random() < 0.4:
        found[rng.choice(("maximum", "exclusiveMaximum"))] = rng.choice((10, 99, 5, 2.75, 1000, -1))
    if rng.random() < 0.2:
        found["multipleOf"] = rng.choice((1, 2, 3, 5, 10, 7, 0.5, 0.1, 0.25))
    return found


def _text(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rng.random() < 0.25:
        found["minLength"] = rng.choice((0, 1, 2, 5))
    if rng.random() < 0.25:
        found["maxLength"] = rng.choice((0, 1, 3, 8, 300))
    if rng.random() < 0.3:
        found["pattern"] = rng.choice(_PATTERNS)
    elif rng.random() < 0.2:
        found["format"] = rng.choice(_FORMATS)
    return found


def _object(rng: random.Random, depth: int, names: list[str]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    if rng.random() < 0.85:
        properties = rng.sample(_NAMES, rng.randrange(1, 5))
        schema["properties"] = {name: _schema(rng, depth - 1, names) for name in properties}
        schema["required"] = [name for name in properties if rng.random() < 0.5]
    if rng.random() < 0.1:
        schema.setdefault("required", []).append("extra")
    if rng.random() < 0.4:
        schema["additionalProperties"] = rng.choice((False, True, _schema(rng, depth - 1, names)))
    if rng.random() < 0.15:
        schema["patternProperties"] = {
            pattern: _schema(rng, depth - 1, names)
            for pattern in rng.sample(("^n", "a", "^[a-z]$", "[0-9]"), rng.randrange(1, 3))
        }
    if rng.random() < 0.1:
        schema["propertyNames"] = rng.choice(
            ({"pattern": "^[a-z]*$"}, {"enum": ["a", "b", "kind"]}, {"maxLength": 3})
        )
    if rng.random() < 0.1:
        schema["minProperties"] = rng.randrange(3)
    if rng.random() < 0.1:
        schema["maxProperties"] = rng.randrange(1, 4)
    if rng.random() < 0.1:
        schema["dependentRequired"] = {rng.choice(_NAMES): [rng.choice(_NAMES)]}
    if rng.random() < 0.05:
        schema["dependentSchemas"] = {rng.choice(_NAMES): _schema(rng, depth - 1, names)}
    if rng.random() < 0.05:
        schema["unevaluatedProperties"] = False
    return schema


def _array(rng: random.Random, depth: int, names: list[str]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array"}
    if rng.random() < 0.8:
        schema["items"] = _schema(rng, depth - 1, names)
    if rng.random() < 0.3:
        schema["prefixItems"] = [_schema(rng, depth - 1, names) for _ in range(rng.randrange(1, 3))]
    if rng.random() < 0.3:
        schema["minItems"] = rng.randrange(4)
    if rng.random() < 0.3:
        schema["maxItems"] = rng.randrange(1, 5)
    if rng.random() < 0.15:
        schema["uniqueItems"] = True
    return schema


def _combined(rng: random.Random, depth: int, names: list[str]) -> dict[str, Any]:
    def some() -> list[Any]:
        return [_schema(rng, depth - 1, names) for _ in range(rng.randrange(1, 4))]

    kind = rng.choice(("anyOf", "anyOf", "oneOf", "allOf", "not", "if"))
    if kind == "not":
        return _flat(rng) | {"not": _flat(rng)}
    if kind == "if":
        schema = {"if": _schema(rng, 1, names)}
        if rng.random() < 0.8:
            schema["then"] = _schema(rng, depth - 1, names)
        if rng.random() < 0.8:
            schema["else"] = _schema(rng, depth - 1, names)
        return schema
    schema = {kind: some()}
    if rng.random() < 0.3:
        schema |= _object(rng, depth - 1, names)
    return schema
