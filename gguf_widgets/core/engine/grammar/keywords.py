"""What the keywords of one schema say, by themselves.

Promises: each keyword is understood, refused by its place, or known to be only a remark. Nothing
that could constrain a value is passed over in silence: keywords of other drafts and of well-known
extensions are refused, and so is what looks like a slip of the pen ("minlength"). Leaves to others:
following `$ref` and choosing between alternatives (`expand`).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Any

from gguf_widgets.core.engine.grammar import formats
from gguf_widgets.core.engine.grammar.document import Document, Node, unsupported
from gguf_widgets.core.engine.grammar.facets import ArrayLayer, Facets, ObjectLayer, TextLimits
from gguf_widgets.core.engine.grammar.limits import MAX_ENUM, MAX_PROPERTIES
from gguf_widgets.core.engine.grammar.numbers import NumberLimits, exact

__all__ = ["Branch", "Local", "read"]

_REMARKS = {
    "$anchor", "$comment", "$defs", "$dynamicAnchor", "$id", "$recursiveAnchor", "$schema",
    "$vocabulary", "contentEncoding", "contentMediaType", "contentSchema", "default", "definitions",
    "deprecated", "description", "discriminator", "example", "examples", "externalDocs", "id",
    "maxContains", "minContains", "readOnly", "title", "writeOnly", "xml",
}  # fmt: skip
# Each is about values of one type only, and says nothing about others.
_ABOUT = {
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "string": {"minLength", "maxLength", "pattern"},
    "object": {"properties", "patternProperties", "additionalProperties", "required",
               "minProperties", "maxProperties", "propertyNames", "dependentRequired",
               "dependentSchemas", "dependencies", "unevaluatedProperties"},
    "array": {"items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems",
              "contains", "unevaluatedItems"},
}  # fmt: skip
_OTHERS = {
    "$ref", "allOf", "anyOf", "const", "else", "enum", "format", "if", "not", "nullable", "oneOf",
    "then", "type",
}  # fmt: skip
_UNDERSTOOD = _OTHERS.union(*_ABOUT.values())
# They constrain, somewhere; here they cannot be followed.
_REFUSED = {
    "$dynamicRef", "$recursiveRef", "allRequired", "anyRequired", "deepProperties", "deepRequired",
    "disallow", "divisibleBy", "extends", "formatExclusiveMaximum", "formatExclusiveMinimum",
    "formatMaximum", "formatMinimum", "instanceof", "oneRequired", "patternRequired", "prohibited",
    "propertyDependencies", "range", "regexp", "select", "switch", "typeof", "uniqueItemProperties",
}  # fmt: skip
_TYPES = ("null", "boolean", "integer", "number", "string", "object", "array")


@dataclass(frozen=True)
class Branch:
    """One way out of several: parts that must hold, and names that must or must not be there."""

    nodes: tuple[Node, ...] = ()
    required: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Local:
    """What one schema says.

    Attributes
    ----------
    before : tuple of Node
        Parts that must hold besides: `$ref` and allOf.
    apart : tuple of Node
        The same, but what they say about properties counts for nobody else: a `not` of a `not`.
    facets : Facets
    choices : tuple of tuple of Branch
        Of each, one way must hold.
    """

    before: tuple[Node, ...]
    apart: tuple[Node, ...]
    facets: Facets
    choices: tuple[tuple[Branch, ...], ...]


def read(document: Document, node: Node, schema: dict[str, Any]) -> Local:
    """Read the keywords of one schema.

    Raises
    ------
    UnsupportedSchemaError
    """
    reader = _Reader(document, node, schema)
    for keyword in schema:
        reader.check_keyword(keyword)
    return Local(reader.before(), reader.apart(), reader.facets(), reader.choices())


class _Reader:
    def __init__(self, document: Document, node: Node, schema: dict[str, Any]) -> None:
        self.document = document
        self.node = node
        self.schema = schema

    # --- the whole ---

    def check_keyword(self, keyword: str) -> None:
        if keyword in _UNDERSTOOD or keyword in _REMARKS or keyword.startswith(("x-", "$comment")):
            return
        if keyword in _REFUSED:
            raise self.error(keyword, f"{keyword!r} cannot be followed.")
        near = difflib.get_close_matches(keyword.lower(), _LOWERED, n=1, cutoff=0.85)
        if near:
            raise self.error(
                keyword,
                f"{keyword!r} is no keyword of JSON Schema. Did you mean {_LOWERED[near[0]]!r}?",
            )

    def before(self) -> tuple[Node, ...]:
        found = []
        if "$ref" in self.schema:
            found.append(self.document.resolve(self.node, self.schema["$ref"]))
        return (*found, *self.schemas("allOf"))

    def apart(self) -> tuple[Node, ...]:
        return (self.part("not", "not"),) if self.negates_negation() else ()

    def negates_negation(self) -> bool:
        """Whether `not` only takes back another `not`."""
        inside = self.schema.get("not")
        return isinstance(inside, dict) and set(inside) == {"not"}

    def choices(self) -> tuple[tuple[Branch, ...], ...]:
        found = []
        named = self.discriminator()
        if "anyOf" in self.schema:
            found.append(tuple(Branch((one,), required=named) for one in self.schemas("anyOf")))
        if "oneOf" in self.schema:
            ways = self.schemas("oneOf")
            found.append(
                tuple(
                    Branch((one, *(_negated(other) for other in ways if other is not one)), named)
                    for one in ways
                )
            )
        if "if" in self.schema and ("then" in self.schema or "else" in self.schema):
            condition = self.part("if")
            first = (condition, *((self.part("then"),) if "then" in self.schema else ()))
            second = (_negated(condition), *((self.part("else"),) if "else" in self.schema else ()))
            found.append((Branch(first), Branch(second)))
        found += self.dependents()
        return tuple(found)

    def discriminator(self) -> tuple[str, ...]:
        """Return the property that tells the alternatives apart, which is always written then."""
        given = self.schema.get("discriminator")
        name = given.get("propertyName") if isinstance(given, dict) else None
        return (name,) if isinstance(name, str) and not self.node.loose else ()

    def facets(self) -> Facets:
        self.check_contains()
        types, number = self.types()
        values = self.values()
        mentioned = {kind for kind, words in _ABOUT.items() if not words.isdisjoint(self.schema)}
        text = self.text()
        if text.formats:
            mentioned.add("string")
        return Facets(
            types=types,
            mentioned=frozenset(mentioned),
            is_typed="type" in self.schema or values is not None,
            number=number.joined(self.number()),
            text=text,
            values=values,
            **self.object(),
            **self.array(),
            nots=self.nots(),
        )

    def nots(self) -> tuple[Node, ...]:
        if "not" not in self.schema or self.negates_negation():
            return ()
        return (_negated(self.part("not")),)

    def check_contains(self) -> None:
        """Refuse `contains`, unless it asks for nothing."""
        trivial = self.schema.get("minContains") == 0 and "maxContains" not in self.schema
        if "contains" in self.schema and not trivial:
            raise self.error("contains", "'contains' cannot be followed.")

    def unseen(self, keyword: str) -> tuple[tuple[Node, Node], ...]:
        """Return what unevaluatedProperties or unevaluatedItems asks for."""
        if not self.has(keyword) or self.node.loose:
            return ()
        return ((self.node, self.part(keyword)),)

    # --- types and values ---

    def types(self) -> tuple[frozenset[str], NumberLimits]:
        if "type" not in self.schema:
            return Facets().types, NumberLimits()
        given = self.schema["type"]
        names = given if isinstance(given, list) else [given]
        if not names:
            raise self.error("type", "the list of types is empty.")
        for name in names:
            if name not in _TYPES:
                raise self.error(
                    "type", f"{name!r} is no type; there are {', '.join(_TYPES)}.", value=name
                )
        found = set(names)
        whole = "integer" in found and "number" not in found
        if "integer" in found:
            found = found - {"integer"} | {"number"}
        if self.schema.get("nullable") is True:  # OpenAPI 3.0's way of saying "or null"
            found.add("null")
        return frozenset(found), NumberLimits(step=exact(1)) if whole else NumberLimits()

    def values(self) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = None
        if "enum" in self.schema:
            listed = self.schema["enum"]
            if not isinstance(listed, list):
                raise self.error("enum", "the values are a list.")
            if len(listed) > MAX_ENUM:
                raise self.error(
                    "enum",
                    f"it lists {len(listed):,} values, and {MAX_ENUM:,} is the limit.",
                    limit=MAX_ENUM,
                )
            found = tuple(listed)
        if "const" in self.schema:
            only = Facets(values=(self.schema["const"],))
            found = only.values if found is None else Facets(values=found).joined(only).values
        return found

    # --- numbers and strings ---

    def number(self) -> NumberLimits:
        low = self.limit("minimum")
        high = self.limit("maximum")
        # In draft 4 "exclusiveMinimum": true made the minimum exclusive.
        low_open = self.schema.get("exclusiveMinimum") is True
        high_open = self.schema.get("exclusiveMaximum") is True
        found = NumberLimits(
            low, low_open and low is not None, high, high_open and high is not None
        )
        if not isinstance(self.schema.get("exclusiveMinimum", True), bool):
            found = found.joined(NumberLimits(low=self.limit("exclusiveMinimum"), low_open=True))
        if not isinstance(self.schema.get("exclusiveMaximum", True), bool):
            found = found.joined(NumberLimits(high=self.limit("exclusiveMaximum"), high_open=True))
        step = self.limit("multipleOf")
        if step is not None and step <= 0:
            raise self.error("multipleOf", "it must be greater than 0.", value=str(step))
        found = found.joined(NumberLimits(step=step))
        ends = formats.INTEGER_RANGES.get(str(self.schema.get("format")))
        if ends:
            whole = NumberLimits(exact(ends[0]), False, exact(ends[1]), False, exact(1))
            found = found.joined(whole)
        return found

    def limit(self, keyword: str) -> Any:
        value = self.schema.get(keyword)
        if keyword not in self.schema:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(keyword, f"{keyword!r} is a number.")
        return exact(value)

    def text(self) -> TextLimits:
        patterns: tuple[tuple[str, str, bool], ...] = ()
        given: tuple[tuple[str, str, bool], ...] = ()
        if "pattern" in self.schema:
            if not isinstance(self.schema["pattern"], str):
                raise self.error("pattern", "a pattern is a text.")
            where = f"{self.node.pointer}/pattern"
            patterns = ((self.schema["pattern"], where, self.node.loose),)
        name = self.schema.get("format")
        if name is not None:
            if not isinstance(name, str):
                raise self.error("format", "a format is a text.")
            if name in formats.REFUSED:
                raise self.error(
                    "format", f"{name!r} cannot be followed: {formats.REFUSED[name]}. Leave it out."
                )
            if formats.automaton_of(name) is not None:
                given = ((name, f"{self.node.pointer}/format", self.node.loose),)
        low, high = self.count("minLength") or 0, self.count("maxLength")
        return TextLimits(low, high, patterns, given)

    def count(self, keyword: str) -> int | None:
        value = self.schema.get(keyword)
        if keyword not in self.schema:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise self.error(keyword, f"{keyword!r} is a whole number.")
        if value < 0:
            raise self.error(keyword, f"{keyword!r} cannot be below 0.")
        return int(value)

    # --- objects and arrays ---

    def object(self) -> dict[str, Any]:
        names = {key: self.part("properties", key) for key in self.table("properties")}
        patterns = tuple(
            (key, self.part("patternProperties", key).pointer, self.part("patternProperties", key))
            for key in self.table("patternProperties")
        )
        additional = self.part("additionalProperties") if self.has("additionalProperties") else None
        required = tuple(dict.fromkeys(self.strings("required")))
        num_names = len({*names, *required})
        if num_names > MAX_PROPERTIES:
            raise self.error(
                "properties",
                f"it names {num_names:,} properties, and {MAX_PROPERTIES} is the limit.",
                limit=MAX_PROPERTIES,
            )
        layers: tuple[ObjectLayer, ...] = ()
        if names or patterns or additional is not None:
            layers = (ObjectLayer(names, patterns, additional, self.node.loose),)
        return {
            "layers": layers,
            "asked" if self.node.loose else "required": required,
            "names": (self.part("propertyNames"),) if self.has("propertyNames") else (),
            "unseen_properties": self.unseen("unevaluatedProperties"),
            "low_properties": self.count("minProperties") or 0,
            "high_properties": self.count("maxProperties"),
        }

    def array(self) -> dict[str, Any]:
        first = self.schemas("prefixItems")
        rest = None
        if isinstance(self.schema.get("items"), list):  # before draft 2020-12
            first = self.schemas("items")
            rest = self.part("additionalItems") if self.has("additionalItems") else None
        elif self.has("items"):
            rest = self.part("items")
        unique = self.schema.get("uniqueItems", False)
        if not isinstance(unique, bool):
            raise self.error("uniqueItems", "it is true or false.")
        return {
            "arrays": (ArrayLayer(first, rest, self.node.loose),) if first or rest else (),
            "unseen_items": self.unseen("unevaluatedItems"),
            "low_items": self.count("minItems") or 0,
            "high_items": self.count("maxItems"),
            "unique": unique,
        }

    def dependents(self) -> list[tuple[Branch, ...]]:
        found: list[tuple[Branch, ...]] = []
        for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
            for name, wanted in self.table(keyword).items():
                absent = Branch(forbidden=(name,))
                if isinstance(wanted, list) and keyword != "dependentSchemas":
                    more = tuple(self.strings(keyword, name))
                    if set(more) <= set(self.strings("required")):
                        continue
                    found.append((absent, Branch(required=(name, *more))))
                else:
                    present = Branch((self.part(keyword, name),), required=(name,))
                    found.append((absent, present))
        return found

    # --- parts ---

    def has(self, keyword: str) -> bool:
        return keyword in self.schema

    def part(self, *keys: str | int) -> Node:
        node = self.document.child(self.node, *keys)
        self.document.at(node)
        return node

    def schemas(self, keyword: str) -> tuple[Node, ...]:
        if keyword not in self.schema:
            return ()
        listed = self.schema[keyword]
        if not isinstance(listed, list):
            raise self.error(keyword, f"{keyword!r} is a list of schemas.")
        if not listed and keyword in ("anyOf", "oneOf"):
            raise self.error(keyword, f"{keyword!r} has no alternatives.")
        return tuple(self.part(keyword, number) for number in range(len(listed)))

    def table(self, keyword: str) -> dict[str, Any]:
        found = self.schema.get(keyword, {})
        if not isinstance(found, dict):
            raise self.error(keyword, f"{keyword!r} is an object.")
        return found

    def strings(self, *keys: str) -> list[str]:
        found: Any = self.schema
        for key in keys:
            found = found.get(key, [])
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            # In draft 3 each property said by itself whether it was required.
            raise self.error(keys[0], f"{keys[0]!r} is a list of names.")
        return found

    def error(self, keyword: str, what: str, **details: Any) -> Exception:
        where = self.document.child(self.node, keyword).pointer
        return unsupported(where, what, keyword=keyword, **details)


def _negated(node: Node) -> Node:
    return replace(node, negated=True)


_LOWERED = {word.lower(): word for word in sorted(_UNDERSTOOD | _REFUSED) if len(word) > 3}
