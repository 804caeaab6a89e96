"""From parts of a schema that must hold together to the alternatives they leave.

Promises: `Reading.alternatives` follows `$ref`, allOf, anyOf, oneOf, if and the dependent keywords
until only plain facts are left, each alternative a `Facets`. A value that is valid fits at least
one of them, and one that fits is valid if it also keeps away from what is in `nots`. The work is
bounded: alternatives are counted, each question is answered once, and a part that refers to itself
with nothing in between is refused. Leaves to others: whether an alternative can be satisfied.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gguf_widgets.core.engine.grammar.document import Document, Node, unsupported
from gguf_widgets.core.engine.grammar.facets import Facets
from gguf_widgets.core.engine.grammar.keywords import Branch, Local, read
from gguf_widgets.core.engine.grammar.limits import MAX_ALTERNATIVES

__all__ = ["Goal", "Reading"]

Goal = frozenset[Node]
"""Parts of a schema that must all hold (or not hold, if negated)."""


@dataclass(frozen=True)
class _Part:
    """A part still to be read, and the parts it was reached through and counts for."""

    node: Node
    through: frozenset[Node]
    scope: frozenset[Node]


@dataclass(frozen=True)
class _Choice:
    """A choice still to be made."""

    branches: tuple[Branch, ...]
    through: frozenset[Node]
    scope: frozenset[Node]
    loose: bool


_Work = _Part | _Choice | Facets


@dataclass
class _Way:
    """One alternative on its way: what is still to be done, the next thing last."""

    waiting: list[_Work]
    facets: Facets
    seen: frozenset[Node]
    nots: dict[Node, None] = field(default_factory=dict)


class Reading:
    """Reads one schema.

    Attributes
    ----------
    problems : list of (str, str)
        Why alternatives fell away, each with its pointer; for the message if none is left.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[tuple[str, str]] = []
        self._alternatives: dict[Goal, tuple[Facets, ...]] = {}
        self._local: dict[Node, Local | bool] = {}

    def alternatives(self, goal: Goal) -> tuple[Facets, ...]:
        """Return the alternatives that a goal leaves.

        Raises
        ------
        UnsupportedSchemaError
        """
        known = self._alternatives.get(goal)
        if known is None:
            known = self._alternatives[goal] = self._find(goal)
        return known

    def _find(self, goal: Goal) -> tuple[Facets, ...]:
        order = sorted(
            goal, key=lambda node: (node.pointer, node.loose, node.negated), reverse=True
        )
        first: list[_Work] = [_Part(node, frozenset(), frozenset()) for node in order]
        found: dict[object, Facets] = {}
        ways = [_Way(first, Facets(), frozenset())]
        while ways:
            way = ways.pop()
            more = self._follow(way)
            if more is None:
                continue
            if not more:
                nots = tuple(dict.fromkeys((*way.facets.nots, *way.nots)))
                facets = replace(way.facets, nots=nots)
                key = (way.seen, facets.required, facets.asked, facets.forbidden, facets.nots)
                found.setdefault(key, facets)
            ways += reversed(more)
            if len(ways) + len(found) > MAX_ALTERNATIVES:
                where = min((node.pointer for node in goal), key=len, default="")
                raise unsupported(
                    where,
                    f"its alternatives multiply to more than {MAX_ALTERNATIVES}, the limit.",
                    limit=MAX_ALTERNATIVES,
                )
        return tuple(found.values())

    def _follow(self, way: _Way) -> list[_Way] | None:
        """Go on until there is a choice; [] if the way is finished, None if it leads nowhere."""
        while way.waiting:
            work = way.waiting.pop()
            if isinstance(work, Facets):
                way.facets = way.facets.joined(work)
            elif isinstance(work, _Choice):
                return [self._taken(way, work, branch) for branch in work.branches]
            elif work.node.negated:
                way.nots[work.node] = None
            elif not self._open(way, work):
                return None
        return []

    def _open(self, way: _Way, part: _Part) -> bool:
        node = part.node
        if node in part.through:
            raise unsupported(
                node.pointer, "it refers to itself, with nothing in between, so it says nothing."
            )
        if node in way.seen:
            return True
        way.seen |= {node}
        local = self._read(node)
        if isinstance(local, bool):
            if not local:
                self.problems.append((node.pointer, "nothing is allowed here (false)"))
            return local
        through, scope = part.through | {node}, part.scope | {node}
        work: list[_Work] = [_Part(one, through, scope) for one in local.before]
        work += [_Part(one, through, frozenset()) for one in local.apart]
        work.append(local.facets.reached(scope))
        work += [_Choice(branches, through, scope, node.loose) for branches in local.choices]
        way.waiting += reversed(work)
        return True

    def _taken(self, way: _Way, choice: _Choice, branch: Branch) -> _Way:
        forbidden = frozenset(branch.forbidden)
        if choice.loose:
            facets = Facets(forbidden=forbidden, asked=branch.required)
        else:
            facets = Facets(forbidden=forbidden, required=branch.required)
        work: list[_Work] = [facets]
        work += [_Part(node, choice.through, choice.scope) for node in branch.nodes]
        return _Way([*way.waiting, *reversed(work)], way.facets, way.seen, dict(way.nots))

    def _read(self, node: Node) -> Local | bool:
        known = self._local.get(node)
        if known is None:
            schema = self.document.at(node)
            known = schema if isinstance(schema, bool) else read(self.document, node, schema)
            self._local[node] = known
        return known
