"""Whether llama.cpp could follow a grammar at all, found out before it is asked.

Promises: what passes is loaded by llama.cpp (as far as it does not name tokens of a vocabulary) and
does not make it run without end or out of memory by its form. llama.cpp itself sees left recursion
only where the rules in front are empty outright, and follows ambiguous ones with all their readings
at once. Leaves to others: reading the text (`gbnf`), how many readings there can be (`ambiguity`).
"""

from __future__ import annotations

from gguf_widgets.core.engine.grammar.ambiguity import check_ambiguity
from gguf_widgets.core.engine.grammar.gbnf import Element, Grammar, Kind, parse
from gguf_widgets.core.engine.grammar.limits import MAX_LEFTMOST, MAX_LEFTMOST_DEPTH

__all__ = ["check_grammar"]


def check_grammar(text: str, *, readings: bool = True) -> None:
    """Refuse a grammar that llama.cpp would refuse or could not follow.

    Parameters
    ----------
    text : str
    readings : bool
        Also try how many readings of a text can be open at once.

    Raises
    ------
    GrammarError
    """
    grammar = parse(text)
    nullable = _nullable(grammar)
    for item, place in grammar.repeated:
        if all(_may_be_empty(element, nullable) for element in item):
            raise grammar.error(
                "what is repeated here can be empty, so it could be repeated without end. Let each "
                "round write something.",
                place,
            )
    _check_leftmost(grammar, nullable)
    if readings:
        check_ambiguity(grammar)


def _may_be_empty(element: Element, nullable: set[int]) -> bool:
    return element.kind is Kind.RULE and element.rule in nullable


def _nullable(grammar: Grammar) -> set[int]:
    """Return the rules that can be empty, also by way of others."""
    found: set[int] = set()
    users: dict[int, list[tuple[int, int]]] = {}
    missing: dict[tuple[int, int], int] = {}
    waiting: list[int] = []
    for number, rule in enumerate(grammar.rules):
        for place, way in enumerate(rule.alternatives or ()):
            if any(element.kind is not Kind.RULE for element in way):
                continue
            needed = {element.rule for element in way}
            missing[number, place] = len(needed)
            for one in needed:
                users.setdefault(one, []).append((number, place))
            if not needed and number not in found:
                found.add(number)
                waiting.append(number)
    while waiting:
        for user in users.get(waiting.pop(), ()):
            missing[user] -= 1
            if not missing[user] and user[0] not in found:
                found.add(user[0])
                waiting.append(user[0])
    return found


def _check_leftmost(grammar: Grammar, nullable: set[int]) -> None:
    """Follow what each rule can begin with: no circle, and not too many ways in."""
    begins: list[list[int]] = []
    for rule in grammar.rules:
        found = []
        for way in rule.alternatives or ():
            for element in way:
                if element.kind is Kind.RULE:
                    found.append(element.rule)
                if not _may_be_empty(element, nullable):
                    break
        begins.append(found)
    ways = [0] * len(begins)
    depths = [0] * len(begins)
    total = 0
    for number in _inner_first(grammar, begins):
        ways[number] = 1 + sum(ways[one] for one in begins[number])
        depths[number] = 1 + max((depths[one] for one in begins[number]), default=0)
        total += ways[number]
        rule = grammar.rules[number]
        if total > MAX_LEFTMOST:
            raise grammar.error(
                f"there are more than {MAX_LEFTMOST:,} ways to begin the rules up to "
                f"{rule.name!r}, "
                "which is the limit. Let rules begin with different characters.",
                rule.place,
            )
        if depths[number] > MAX_LEFTMOST_DEPTH:
            raise grammar.error(
                f"the rule {rule.name!r} begins with a rule that begins with a rule, and so "
                f"on, more "
                f"than {MAX_LEFTMOST_DEPTH:,} deep, which is the limit.",
                rule.place,
            )


def _inner_first(grammar: Grammar, begins: list[list[int]]) -> list[int]:
    order: list[int] = []
    state = [0] * len(begins)  # 0 not met, 1 on the way, 2 done
    for start in range(len(begins)):
        waiting = [(start, False)]
        while waiting:
            number, done = waiting.pop()
            if done:
                state[number] = 2
                order.append(number)
            elif state[number] == 0:
                state[number] = 1
                waiting.append((number, True))
                for one in begins[number]:
                    if state[one] == 1:
                        rule = grammar.rules[one]
                        raise grammar.error(
                            f"the rule {rule.name!r} can begin with itself (left recursion), so it "
                            "could begin without end. Begin it with something else.",
                            rule.place,
                        )
                    if state[one] == 0:
                        waiting.append((one, False))
    return order
