"""A schema as a document: its parts by JSON pointer, and what `$ref` points at.

Promises: a document that passes is plain JSON of a bounded size; each part is a dict or a bool;
`$ref` is followed inside the document, by pointer, `$anchor` or `$id`, and refused elsewhere,
because nothing is ever fetched. Leaves to others: what the keywords mean (`keywords`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from gguf_widgets.core.engine.grammar.limits import MAX_DEPTH, MAX_VALUES
from gguf_widgets.core.errors import UnsupportedSchemaError

__all__ = ["Document", "Node", "shown", "unsupported"]

_MOST_BITS = 1_000


@dataclass(frozen=True)
class Node:
    """One part of a schema, and how it is meant.

    Attributes
    ----------
    pointer : str
    negated : bool
        A value must not be valid against it.
    loose : bool
        Read as widely as anybody may read it; for showing that a value cannot be valid.
    """

    pointer: str
    negated: bool = False
    loose: bool = False

    def loosely(self) -> Node:
        """Return the same part, read loosely."""
        return replace(self, loose=True)

    def positive(self) -> Node:
        """Return the same part, to be valid against."""
        return replace(self, negated=False)

    def strictly(self) -> Node:
        """Return the same part, read strictly."""
        return replace(self, loose=False)


def shown(pointer: str) -> str:
    """Say where a pointer points, for a message."""
    return pointer or "the top"


def unsupported(pointer: str, what: str, **details: Any) -> UnsupportedSchemaError:
    """Make the error that refuses a part of a schema."""
    return UnsupportedSchemaError(
        f"This JSON schema cannot be followed. At {shown(pointer)}: {what}",
        pointer=pointer,
        **details,
    )


class Document:
    """A whole schema.

    Parameters
    ----------
    schema : dict or bool

    Raises
    ------
    UnsupportedSchemaError
        If it is no JSON, or too large.
    """

    def __init__(self, schema: Any) -> None:
        if not isinstance(schema, dict | bool):
            raise unsupported("", f"a schema is an object, not {_kind(schema)}.")
        self._root = schema
        _check_json(schema)
        self._bases: dict[str, str] = {}
        self._named: dict[str, str] = {}
        self._find_names()

    def at(self, node: Node) -> dict[str, Any] | bool:
        """Return a part of the schema.

        Raises
        ------
        UnsupportedSchemaError
            If there is none, or it is no schema.
        """
        found = self._find(node.pointer)
        if not isinstance(found, dict | bool):
            raise unsupported(node.pointer, f"a schema belongs here, not {_kind(found)}.")
        return found

    def child(self, node: Node, *keys: str | int) -> Node:
        """Return a part of a part."""
        return replace(node, pointer=node.pointer + "".join(f"/{_escaped(key)}" for key in keys))

    def resolve(self, node: Node, reference: Any) -> Node:
        """Return what a `$ref` in a part points at."""
        where = f"{node.pointer}/$ref"
        if not isinstance(reference, str):
            raise unsupported(where, f"$ref is a text, not {_kind(reference)}.")
        resource = self._resource_of(node.pointer)
        base = self._bases.get(resource, "")
        if reference.startswith("#"):
            address, fragment = base, reference[1:]
            start: str | None = resource
        else:
            address, fragment = urldefrag(urljoin(base, reference))
            start = self._named.get(address)
        if start is None:
            raise unsupported(
                where,
                f"it refers to {reference!r}, which is not in this schema, and nothing is fetched. "
                "Put it under $defs.",
                reference=reference,
            )
        if fragment and not fragment.startswith("/"):
            found = self._named.get(f"{address}#{fragment}")
        else:
            found = start + unquote(fragment)
        if found is None or not self._exists(found):
            raise unsupported(
                where,
                f"it refers to {reference!r}, and there is no such part.",
                reference=reference,
            )
        return replace(node, pointer=found)

    # --- inside ---

    def _find(self, pointer: str) -> Any:
        found: Any = self._root
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found[int(key)] if isinstance(found, list) else found[key]
        return found

    def _exists(self, pointer: str) -> bool:
        if pointer and not pointer.startswith("/"):
            return False
        try:
            self._find(pointer)
        except (KeyError, IndexError, ValueError, TypeError):
            return False
        return True

    def _resource_of(self, pointer: str) -> str:
        """Return the part with an `$id` of its own that a part belongs to, or the whole."""
        while pointer and pointer not in self._bases:
            pointer = pointer.rpartition("/")[0]
        return pointer

    def _find_names(self) -> None:
        """Note every `$id` and `$anchor`, wherever a schema may stand."""
        waiting: list[tuple[str, Any, str]] = [("", self._root, "")]
        while waiting:
            pointer, value, base = waiting.pop()
            if isinstance(value, dict):
                name = value.get("$id", value.get("id"))
                if isinstance(name, str) and _holds_schemas(pointer):
                    self._check_beside(pointer, value)
                    base, fragment = urldefrag(urljoin(base, name))
                    if fragment:
                        self._named[f"{base}#{fragment}"] = pointer
                    else:
                        self._bases[pointer] = base
                        self._named[base] = pointer
                anchor = value.get("$anchor", value.get("$dynamicAnchor"))
                if isinstance(anchor, str):
                    self._named[f"{base}#{anchor}"] = pointer
                children = [(str(key), child) for key, child in value.items()]
                if "enum" in value or "const" in value:
                    children = [(k, c) for k, c in children if k not in ("enum", "const")]
            elif isinstance(value, list):
                children = [(str(number), child) for number, child in enumerate(value)]
            else:
                continue
            waiting += [(f"{pointer}/{_escaped(key)}", child, base) for key, child in children]

    def _check_beside(self, pointer: str, value: dict[str, Any]) -> None:
        """Refuse `$id` beside `$ref`, which drafts before 2019-09 pass over, if either could be."""
        root = self._root if isinstance(self._root, dict) else {}
        if pointer and "$ref" in value and "draft/20" not in str(root.get("$schema")):
            raise unsupported(
                f"{pointer}/$id",
                "$id beside $ref is read differently by different drafts. Give the whole schema a "
                "$schema, or leave one of them out.",
            )


def _holds_schemas(pointer: str) -> bool:
    """Say whether a dict here is a schema, and not a table of them that names a property "id"."""
    above = pointer.rpartition("/")[2]
    return above not in ("properties", "patternProperties", "$defs", "definitions")


def _check_json(schema: Any) -> None:
    """Refuse what is no JSON, or too much of it."""
    count = 0
    waiting: list[tuple[str, Any, int]] = [("", schema, 0)]
    while waiting:
        pointer, value, depth = waiting.pop()
        count += 1
        if count > MAX_VALUES:
            raise unsupported(
                "", f"it has more than {MAX_VALUES:,} values, which is the limit.", limit=MAX_VALUES
            )
        if depth > MAX_DEPTH:
            raise unsupported(
                pointer,
                f"it is nested deeper than {MAX_DEPTH}, which is the limit.",
                limit=MAX_DEPTH,
            )
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise unsupported(pointer, f"a name is a text, not {_kind(key)}.")
                _check_text(pointer, key)
            waiting += [(f"{pointer}/{_escaped(k)}", v, depth + 1) for k, v in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{pointer}/{n}", v, depth + 1) for n, v in enumerate(value)]
        elif isinstance(value, str):
            _check_text(pointer, value)
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise unsupported(pointer, f"{value} is no number in JSON.")
        elif isinstance(value, int):
            if value.bit_length() > _MOST_BITS:
                raise unsupported(pointer, "this number has more than 300 digits.")
        elif value is not None:
            raise unsupported(pointer, f"this is no JSON: {_kind(value)}.")


def _check_text(pointer: str, text: str) -> None:
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise unsupported(pointer, "it holds half a character (a lone surrogate).")


def _escaped(key: str | int) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    names |= {int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")
