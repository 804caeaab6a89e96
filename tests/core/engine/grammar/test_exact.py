"""Where the style leaves no choice, a grammar accepts a value exactly if it is valid.

Held against jsonschema, over random schemas of one level: the other tests show that nothing invalid
is written, these that nothing valid is lost.
"""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from support.random_schemas import flat_schema, object_schema

from gguf_widgets.core.engine import grammar
from gguf_widgets.core.errors import UnsupportedSchemaError

TEXTS = [
    "", "a", "ab", "abc", "b", "aaaa", "ba", "z", "xz", "0", "12-34", "yes", "no", "é", "éé", "aé",
    "ééééé", '"', "\\", "\n", "yy", "xyy", "bz9", "a" * 9, "a" * 299, "a" * 301, "😀",
]  # fmt: skip
NUMBERS = [
    0, 1, -1, 2, 3, 5, 6, 7, 10, 11, 98, 99, 100, 101, 999, 1000, 1001, -6, -7, -8, -100, 1.5, 2.5,
    -0.25, -0.5, 0.1, 0.25, 2.75, 2.76, 2.74, 1.49, 99.5, 100.1, 0.3, 12345678,
]  # fmt: skip
OTHERS: list[Any] = [None, True, False, [], {}, [1, "a"], {"a": 1}, {"b": [None]}]


def is_valid(schema: Any, value: Any) -> bool:
    """Ask jsonschema, with exact decimals: 0.3 is a multiple of 0.1."""
    exact, found = (json.loads(json.dumps(one), parse_float=Decimal) for one in (schema, value))
    return jsonschema.Draft202012Validator(exact).is_valid(found)


def followed(schema: Any) -> tuple[str | None, str]:
    """Return a schema's grammar, or why there is none."""
    try:
        return grammar.from_schema(schema), ""
    except UnsupportedSchemaError as error:
        return None, error.message


def test_single_values(byte_walker) -> None:
    num_accepted = 0
    for seed in range(150):
        rng = random.Random(seed)  # noqa: S311 - a schema to repeat
        schema = flat_schema(rng)
        if rng.random() < 0.3:
            schema["not"] = flat_schema(rng)
        values = TEXTS + NUMBERS + ([] if "not" in schema else OTHERS)
        valid = [is_valid(schema, value) for value in values]
        text, refusal = followed(schema)
        if text is None:
            # Objects and arrays cannot be told apart from others by a list of values.
            assert not any(valid) or "cannot be told" in refusal, (schema, valid)
            continue
        for value, expected in zip(values, valid, strict=True):
            accepted = byte_walker.accepts(text, json.dumps(value, ensure_ascii=False))
            assert accepted == expected, (seed, schema, value)
            num_accepted += accepted
    assert num_accepted > 1_000


@pytest.mark.parametrize("block", range(3))
def test_objects(byte_walker, block: int) -> None:
    num_accepted = 0
    for seed in range(60 * block, 60 * block + 60):
        rng = random.Random(seed)  # noqa: S311 - a schema to repeat
        schema = object_schema(rng)
        text, refusal = followed(schema)
        assert text is not None or "nothing can be written" in refusal
        for _ in range(25):
            value, num_others = object_for(schema, rng)
            valid = is_valid(schema, value)
            accepted = text is not None and byte_walker.accepts(
                text, json.dumps(value, ensure_ascii=False)
            )
            num_accepted += accepted
            # Of the names that are not named, only one counts for sure.
            unsure = schema.get("minProperties", 0) > 1 and num_others > 1
            assert accepted == valid or (valid and unsure), (seed, schema, value)
    assert num_accepted > 400


def object_for(schema: dict[str, Any], rng: random.Random) -> tuple[dict[str, Any], int]:
    """Make an object in the order of the schema, more or less valid, and count its other names."""
    properties, required = schema.get("properties", {}), schema.get("required", [])
    named = list(dict.fromkeys([*properties, *required]))
    names = [name for name in named if name in required or rng.random() < 0.6]
    others = []
    is_open = schema.get("additionalProperties", not properties) is not False
    if (is_open or "patternProperties" in schema) and rng.random() < 0.6:
        some = rng.sample(["n1", "a", "b", "c", "zz", "name", "nam", "é", "x9", 'q"'], 3)
        others = [name for name in some[: rng.randrange(1, 4)] if name not in named]
    value = {}
    for name in names + others:
        candidates = rng.sample(TEXTS[:12] + NUMBERS[:14] + OTHERS, 10)
        wanted = properties.get(name, True)
        value[name] = next((one for one in candidates if is_valid(wanted, one)), 1)
        if name in others:
            value[name] = rng.choice((1, "s", None))
    return value, len(others)
