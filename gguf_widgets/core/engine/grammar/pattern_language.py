"""What a pattern's tree means, as an expression over whole texts.

Promises: a pattern matches a text that contains a match, unless ``^`` and ``$`` say otherwise, as
JSON Schema has it. `sure` chooses which of a class's two readings counts (`classes`): the language
of surely matching texts, to write from, or of possibly matching ones, to keep away from. Look-ahead
and anchors may stand anywhere but inside a repetition.
"""

from __future__ import annotations

from gguf_widgets.core.engine.grammar import pattern as tree
from gguf_widgets.core.engine.grammar.classes import CharacterClass
from gguf_widgets.core.engine.grammar.expression import Expression, Expressions

__all__ = ["matching"]

# What may follow, where nothing has been read yet and where something has. They differ only where
# there is a `^`.
_Following = tuple[Expression, Expression]


def matching(expressions: Expressions, parsed: tree.Tree, *, sure: bool = True) -> Expression:
    """Return the texts in which a pattern finds a match.

    Raises
    ------
    PatternError
        For a position or look-ahead inside a repetition.
    """
    reading = _Reading(expressions)
    anything = expressions.everything
    first, later = reading.before(parsed, (anything, anything), sure=sure)
    return expressions.either([first, expressions.concat(anything, later)])


class _Reading:
    def __init__(self, expressions: Expressions) -> None:
        self.make = expressions

    def before(self, node: tree.Tree, following: _Following, *, sure: bool) -> _Following:
        """Return the texts that begin with a match of `node` and go on with `following`."""
        make = self.make
        if _is_plain(node):
            whole = self.plain(node, sure=sure)
            started = make.concat(whole, following[1])
            if not whole.nullable or following[0] is following[1]:
                return started, started
            # Something, or nothing and still at the start.
            something = make.both([whole, make.no(make.empty)])
            return make.either([make.concat(something, following[1]), following[0]]), started
        if isinstance(node, tree.Start):
            return following[0], make.nothing
        if isinstance(node, tree.End):
            return make.both([make.empty, following[0]]), make.both([make.empty, following[1]])
        if isinstance(node, tree.Look):
            anything = (make.everything, make.everything)
            ahead = self.before(node.part, anything, sure=sure != node.negative)
            seen = [make.no(one) if node.negative else one for one in ahead]
            return make.both([seen[0], following[0]]), make.both([seen[1], following[1]])
        if isinstance(node, tree.Sequence):
            for part in reversed(node.parts):
                following = self.before(part, following, sure=sure)
            return following
        if isinstance(node, tree.Alternatives):
            ways = [self.before(part, following, sure=sure) for part in node.parts]
            return make.either(way[0] for way in ways), make.either(way[1] for way in ways)
        if isinstance(node, tree.Repeated) and node.high == 1:
            inside = self.before(node.part, following, sure=sure)
            if node.low == 1:
                return inside
            return make.either([inside[0], following[0]]), make.either([inside[1], following[1]])
        raise tree.PatternError("'^', '$' or a look-ahead inside a repetition cannot be followed")

    def plain(self, node: tree.Tree, *, sure: bool) -> Expression:
        """Return the texts that match a part without positions."""
        if isinstance(node, CharacterClass):
            return self.make.chars(node.sure if sure else node.possible)
        if isinstance(node, tree.Sequence):
            return self.make.concat(*(self.plain(part, sure=sure) for part in node.parts))
        if isinstance(node, tree.Alternatives):
            return self.make.either(self.plain(part, sure=sure) for part in node.parts)
        if isinstance(node, tree.Repeated):
            return self.make.loop(self.plain(node.part, sure=sure), node.low, node.high)
        raise AssertionError(node)


def _is_plain(node: tree.Tree) -> bool:
    if isinstance(node, tree.Sequence | tree.Alternatives):
        return all(_is_plain(part) for part in node.parts)
    if isinstance(node, tree.Repeated):
        return _is_plain(node.part)
    return isinstance(node, CharacterClass)
