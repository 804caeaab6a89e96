"""From a schema to a grammar: one rule for each set of parts that must hold together.

Promises: `compiled` returns the rules of a whole schema, whose every text is valid against it, or
refuses the schema with the part that cannot be followed. Each set of parts gets one rule, which
refers to others, so a schema that refers to itself, or to one part many times, stays small. Leaves
to others: what parts mean (`expand`, `judge`, `avoid`) and how values are written (`writing` and
the files beside it).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gguf_widgets.core.engine.grammar import arrays, charset, scalars, texts
from gguf_widgets.core.engine.grammar.automaton import build, words
from gguf_widgets.core.engine.grammar.avoid import Avoiding
from gguf_widgets.core.engine.grammar.document import Document, Node, shown, unsupported
from gguf_widgets.core.engine.grammar.expand import Goal, Reading
from gguf_widgets.core.engine.grammar.expression import Expression, Expressions, TooLargeError
from gguf_widgets.core.engine.grammar.facets import Facets, canonical
from gguf_widgets.core.engine.grammar.judge import Judge, type_of
from gguf_widgets.core.engine.grammar.limits import MAX_ELEMENTS, MAX_STATES
from gguf_widgets.core.engine.grammar.objects import ObjectPlan, Region, label_of, regions
from gguf_widgets.core.engine.grammar.rules import (
    Alternative,
    Ref,
    Rules,
    RulesTooLargeError,
    Symbol,
    Text,
)
from gguf_widgets.core.engine.grammar.scalars import Numbers, Strings
from gguf_widgets.core.engine.grammar.sequences import sequence
from gguf_widgets.core.engine.grammar.writing import Writer, json_text

__all__ = ["compiled"]

# Longer names than this are not written where names are counted character by character.
_LONGEST_NAME = 128
# Items that must differ are listed at each place where they may still come.
_MOST_DIFFERENT = 64


def compiled(schema: Any) -> tuple[str, bool]:
    """Return the text of a schema's grammar, and whether several readings may stay open in it.

    Raises
    ------
    UnsupportedSchemaError
    """
    compiler = _Compiler(Document(schema))
    try:
        text = compiler.text()
    except RulesTooLargeError:
        raise unsupported(
            "",
            f"its grammar would have more than {MAX_ELEMENTS:,} parts, which is the limit. Shorten "
            "its lists, patterns and repetitions.",
            limit=MAX_ELEMENTS,
        ) from None
    return text, compiler.is_ambiguous


class _Compiler:
    def __init__(self, document: Document) -> None:
        self.reading = Reading(document)
        self.judge = Judge(self.reading)
        self.avoiding = Avoiding(self.reading, self.judge)
        self.rules = Rules()
        self.writer = Writer(self.rules)
        self.is_ambiguous = False
        self.made: dict[Goal, Ref] = {}
        self.waiting: deque[Goal] = deque()

    def text(self) -> str:
        top = self.value(frozenset((Node(""),)))
        while self.waiting:
            goal = self.waiting.popleft()
            self.rules.define(self.made[goal], self.ways(goal))
        text = self.rules.text(top)
        if text is None:
            raise self.nothing()
        return text

    def nothing(self) -> Exception:
        """Say why nothing can be written."""
        if not self.reading.problems:
            return unsupported(
                "",
                "nothing could ever be written that is complete: it contains itself without end.",
            )
        pointer, reason = self.reading.problems[0]
        return unsupported(pointer, f"nothing can be written that is surely valid: {reason}.")

    def value(self, goal: Goal) -> Ref:
        """Return the rule for a goal; it is defined later."""
        if goal not in self.made:
            self.made[goal] = self.rules.reserve(_hint(goal))
            self.waiting.append(goal)
        return self.made[goal]

    def ways(self, goal: Goal) -> list[Alternative]:
        """Return everything that is written for a goal."""
        where = min((node.pointer for node in goal), key=len, default="")
        alternatives = self.alternatives(goal, where)
        if not alternatives:
            return []
        found: list[Alternative] = []
        listed = [
            value
            for one in alternatives
            for value in one.values or ()
            if self.judge.fits(one, value, sure=True)
        ]
        if any(one.values is not None for one in alternatives) and not listed:
            self.reading.problems.append((where, "none of the listed values is allowed"))
        open_ones = [one for one in alternatives if one.values is None]
        found += self.constants(open_ones, listed)
        found += self.compounds([one for one in listed if isinstance(one, list | dict)])
        texts_listed = [one for one in listed if isinstance(one, str)]
        found += [(ref,) for ref in self.strings(open_ones, texts_listed, where)]
        found += [(ref,) for ref in self.numbers(open_ones, listed, where)]
        found += [(ref,) for ref in self.objects(open_ones, where)]
        found += [(ref,) for ref in self.arrays(open_ones, where)]
        return found

    def alternatives(self, goal: Goal, where: str) -> list[Facets]:
        """Return the alternatives that can be satisfied, each narrowed to what is written."""
        found = []
        for given in self.reading.alternatives(goal):
            facets = replace(given, types=given.written_types)
            reason = self.judge.void_facets(facets)
            if reason is None and facets.values is None:
                facets = self.possible(self.avoiding.narrowed(self.possible(facets)))
                if not facets.types:
                    reason = "all it allows is excluded by 'not', 'if' or other parts of 'oneOf'"
            if reason is None:
                found.append(facets)
            else:
                self.reading.problems.append((where, reason))
        return found

    def possible(self, facets: Facets) -> Facets:
        """Return facets without the types of which there can be no value."""
        void = (kind for kind in facets.types if self.judge.void_type(facets, kind) is not None)
        return facets.without(*void)

    # --- values that are listed ---

    def constants(self, facets: list[Facets], listed: list[Any]) -> list[Alternative]:
        found: list[Alternative] = []
        for value in (None, True, False):
            wanted = canonical(value)
            if any(canonical(one) == wanted for one in listed) or any(
                type_of(value) in one.types and (value is None or value in one.booleans)
                for one in facets
            ):
                found.append((Text(json_text(value)),))
        return found

    def compounds(self, listed: list[Any]) -> list[Alternative]:
        if not listed:
            return []
        return [(self.rules.choice("listed", [self.literal(value) for value in listed]),)]

    def literal(self, value: Any) -> Alternative:
        """Return one value as it is written."""
        if isinstance(value, dict):
            items: list[Alternative] = [
                (*label_of(name), self.writer.space, *self.literal(item))
                for name, item in value.items()
            ]
        elif isinstance(value, list):
            items = [self.literal(item) for item in value]
        else:
            return (Text(json_text(value)),)
        first, last = "{}" if isinstance(value, dict) else "[]"
        found: list[Symbol] = [Text(first), self.writer.space]
        for number, item in enumerate(items):
            found += [Text(","), self.writer.space] if number else []
            found += item
        return (*found, *((self.writer.space,) if items else ()), Text(last))

    # --- strings and numbers ---

    def strings(self, facets: list[Facets], listed: list[str], where: str) -> list[Ref]:
        ways = [Strings(one.text, one.not_texts, where) for one in facets if "string" in one.types]
        found = scalars.string_ways(self.writer, ways, listed) if ways or listed else []
        if ways and not found:
            self.reading.problems.append((where, "no text fits its patterns and formats"))
        return found

    def numbers(self, facets: list[Facets], listed: list[Any], where: str) -> list[Ref]:
        ways = [
            Numbers(one.number, one.not_numbers, where) for one in facets if "number" in one.types
        ]
        written = [json_text(one) for one in listed if type_of(one) == "number"]
        found = scalars.number_ways(self.writer, ways, written) if ways or written else []
        if ways and not found:
            self.reading.problems.append((where, "no number that is written is within its bounds"))
        return found

    # --- objects ---

    def objects(self, facets: list[Facets], where: str) -> list[Ref]:
        plans = []
        for one in facets:
            if "object" not in one.types:
                continue
            others = [
                (key, region.goal)
                for region in regions(one, where)
                if (key := self.key(one, region, where)) is not None
            ]
            plan = ObjectPlan(one, self.judge, self.value, others)
            if plan.most_different < one.low_properties:
                problem = (
                    f"it must have {one.low_properties} properties, and only "
                    f"{plan.most_different} can be kept different by their names"
                )
                self.reading.problems.append((where, problem))
            plans.append(plan)
        return self.sequence(plans, "{}", "object", where)

    def key(self, facets: Facets, region: Region, where: str) -> Ref | None:
        """Return the rule for a name that is not named, with its colon; None if there is none."""
        end = (Text('":'),)
        make = Expressions()
        try:
            wanted = make.both(self.key_parts(make, facets, region))
            if wanted is make.everything:
                return self.writer.string_until(end, "name")
            found = build(make, wanted)
        except TooLargeError:
            raise unsupported(
                where,
                f"telling its names apart needs more than {MAX_STATES:,} states, the limit.",
                limit=MAX_STATES,
            ) from None
        return None if found.is_empty else self.writer.string_of(found, "name", end)

    def key_parts(self, make: Expressions, facets: Facets, region: Region) -> Iterator[Expression]:
        """Yield what a name that is not named must be, all at once."""
        for node in facets.names:
            yield self.names(make, node)
        taken = {*facets.declared, *facets.forbidden}
        if taken:
            yield make.no(make.leaf(words(taken)))
        for given, pointer in region.inside:
            yield make.leaf(texts.pattern_automaton(given, pointer, sure=True))
        for given, pointer in region.outside:
            yield make.no(make.leaf(texts.pattern_automaton(given, pointer, sure=False)))

    def names(self, make: Expressions, node: Node) -> Expression:
        """Return the names that a schema for names allows."""
        found = []
        goal = frozenset((node,))
        for one in self.alternatives(goal, node.pointer):
            if one.values is not None:
                fitting = [
                    value
                    for value in one.values
                    if isinstance(value, str) and self.judge.fits(one, value, sure=True)
                ]
                found.append(make.leaf(words(fitting)))
            elif "string" in one.types:
                found.append(self.name_within(make, Strings(one.text, one.not_texts, node.pointer)))
        return make.either(found)

    def name_within(self, make: Expressions, way: Strings) -> Expression:
        if way.is_count:
            low, high = way.limits.low, way.limits.high
            high = None if high is None else max(low, min(high, _LONGEST_NAME))
            return make.loop(make.chars(charset.ANY), low, high)
        return make.leaf(texts.automaton(way.limits, way.away))

    # --- arrays ---

    def arrays(self, facets: list[Facets], where: str) -> list[Ref]:
        wanted = [one for one in facets if "array" in one.types]
        if len(wanted) == 1 and not wanted[0].unique:
            (one,) = wanted
            goal = arrays.uniform_goal(one, self.judge)
            if goal is not None:
                low, high = arrays.bounds(one, where)
                return [arrays.repeated(self.writer, self.value(goal), low, high)]
        plans: list[arrays.ArrayPlan | arrays.DifferentPlan] = []
        for one in wanted:
            low, high = arrays.bounds(one, where)
            if one.unique and (high is None or high > 1):
                plans.append(arrays.DifferentPlan(self.different(one, where), low, high))
            else:
                plans.append(arrays.ArrayPlan(one, self.judge, self.value, where))
        return self.sequence(plans, "[]", "array", where)

    def different(self, facets: Facets, where: str) -> list[Symbol]:
        """Return all that the items of an array can be, each once."""
        goal = arrays.uniform_goal(facets, self.judge)
        found = None if goal is None else self.everything(goal, where)
        if found is None or len(found) > _MOST_DIFFERENT:
            raise unsupported(
                f"{where}/uniqueItems",
                "that all items differ can only be kept where all they can be is listed, up to "
                f"{_MOST_DIFFERENT} values (an enum, for example).",
                limit=_MOST_DIFFERENT,
            )
        symbols: list[Symbol] = []
        for value in found:
            literal = self.literal(value)
            symbols.append(literal[0] if len(literal) == 1 else self.rules.add("listed", [literal]))
        return symbols

    def everything(self, goal: Goal, where: str) -> list[Any] | None:
        """Return all values of a goal, or None if they are too many to list."""
        found: dict[Any, Any] = {}
        for one in self.alternatives(goal, where):
            values = one.values
            if values is None:
                values = self.few(one)
            if values is None:
                return None
            for value in values:
                if self.judge.fits(one, value, sure=True):
                    found.setdefault(canonical(value), value)
        return list(found.values())

    def few(self, facets: Facets) -> tuple[Any, ...] | None:
        """Return the values of facets without a list, if they are few."""
        if not facets.types <= {"null", "boolean", "number"}:
            return None
        values: list[Any] = [None] if "null" in facets.types else []
        if "boolean" in facets.types:
            values += [value for value in (True, False) if value in facets.booleans]
        if "number" in facets.types:
            whole = facets.number.whole_numbers(_MOST_DIFFERENT)
            if whole is None:
                return None
            values += whole
        return tuple(values)

    # --- both ---

    def sequence(self, plans: list[Any], brackets: str, hint: str, where: str) -> list[Ref]:
        if not plans:
            return []
        ref, ambiguous = sequence(self.writer, plans, (brackets[0], brackets[1]), hint, where)
        self.is_ambiguous = self.is_ambiguous or ambiguous
        return [ref]


def _hint(goal: Goal) -> str:
    pointer = max((node.pointer for node in goal), key=len, default="/json")
    return shown(pointer).rpartition("/")[2] or "value"
