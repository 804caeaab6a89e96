"""Which names of a Jinja template come from the table.

Promises: a name counts only where it can be reached without the template itself having set it
before, in the order of first use. Jinja's own `meta.find_undeclared_variables` also reports a name
that both branches of an ``if`` set, which would refuse good templates. Leaves to others: what the
names mean (`template_jinja`).

The scopes are Jinja's: what a loop, a macro or a block sets ends with it; what an ``if`` sets
stays.
"""

from __future__ import annotations

from collections.abc import Iterable

from jinja2 import nodes

__all__ = ["free_names"]

_IN_MACROS = {"varargs", "kwargs", "caller"}


def free_names(tree: nodes.Template) -> tuple[dict[str, int], set[str]]:
    """Return the names that a template takes from outside, and those that it sets anywhere.

    Returns
    -------
    free : dict of str to int
        Each name with the line where it is used first.
    stored : set of str
    """
    stored = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    stored |= {macro.name for macro in tree.find_all(nodes.Macro)}
    walk = _Walk()
    walk.statements(tree.body, set())
    return walk.free, stored


class _Walk:
    def __init__(self) -> None:
        self.free: dict[str, int] = {}

    def statements(self, body: Iterable[nodes.Node], known: set[str]) -> set[str]:
        """Go through statements in order; return what is known after them."""
        body = list(body)
        later = _set_in(body)
        for node in body:
            known = self._statement(node, known, later)
        return known

    def _statement(self, node: nodes.Node, known: set[str], later: set[str]) -> set[str]:
        match node:
            case nodes.Assign():
                self._uses(node.node, known)
                self._uses(node.target, known)  # ns.count uses ns
                return known | _targets(node.target)
            case nodes.AssignBlock():
                self.statements(node.body, known)
                self._uses(node.filter, known)
                return known | _targets(node.target)
            case nodes.If():
                return self._if(node, known)
            case nodes.For():
                self._uses(node.iter, known)
                inside = known | _targets(node.target)
                self._uses(node.test, inside)
                self.statements(node.body, inside | {"loop"})
                self.statements(node.else_, known)
            case nodes.Macro() | nodes.CallBlock():
                if isinstance(node, nodes.CallBlock):
                    self._uses(node.call, known)
                else:
                    known = known | {node.name}
                for default in node.defaults:
                    self._uses(default, known)
                # A macro runs later, when what follows it may have been set, too.
                outer = later if isinstance(node, nodes.Macro) else set()
                arguments = {argument.name for argument in node.args}
                self.statements(node.body, known | outer | arguments | _IN_MACROS)
            case nodes.With():
                for value in node.values:
                    self._uses(value, known)
                inside = known.union(*map(_targets, node.targets))
                self.statements(node.body, inside)
            case nodes.FilterBlock():
                self._uses(node.filter, known)
                self.statements(node.body, known)
            case nodes.Scope():
                self.statements(node.body, known)
            case _:
                self._uses(node, known)
        return known

    def _if(self, node: nodes.If, known: set[str]) -> set[str]:
        self._uses(node.test, known)
        after = [self.statements(node.body, known)]
        for other in node.elif_:
            self._uses(other.test, known)
            after.append(self.statements(other.body, known))
        after.append(self.statements(node.else_, known))
        return set.intersection(*after)

    def _uses(self, node: nodes.Node | None, known: set[str]) -> None:
        """Note the names that an expression uses."""
        if node is None:
            return
        if isinstance(node, nodes.Name | nodes.NSRef):
            is_use = isinstance(node, nodes.NSRef) or node.ctx == "load"
            if is_use and node.name not in known:
                self.free.setdefault(node.name, node.lineno)
            return
        for child in node.iter_child_nodes():
            self._uses(child, known)


def _set_in(body: Iterable[nodes.Node]) -> set[str]:
    """Return what these statements set for those that follow them."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, nodes.Assign | nodes.AssignBlock):
            names |= _targets(node.target)
        elif isinstance(node, nodes.Macro):
            names.add(node.name)
        elif isinstance(node, nodes.If):
            names |= _set_in([*node.body, *node.elif_, *node.else_])
    return names


def _targets(node: nodes.Node) -> set[str]:
    found = {name.name for name in node.find_all(nodes.Name)}
    if isinstance(node, nodes.Name):
        found.add(node.name)
    return found
