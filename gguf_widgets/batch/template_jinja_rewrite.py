"""What a Jinja template may hold, and how its costly parts are put under guard.

Promises: only the kinds of nodes listed here get through, everything else is refused by its line;
after `guard`, each loop, comparison, ``~``, cut and output of the template goes through a function
that pays for it. Leaves to others: those functions (`template_jinja_ops`), names
(`template_jinja_names`).
"""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Iterable
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from gguf_widgets.batch.template_jinja_budget import MAX_RANGE
from gguf_widgets.batch.template_jinja_filters import FILTERS
from gguf_widgets.batch.template_jinja_tests import TESTS
from gguf_widgets.core.errors import InvalidValueError

__all__ = ["COMPARE", "CONCAT", "CUT", "EACH", "KEY", "ROW", "check_nodes", "fail", "guard"]

# The filters that the guards are; no template can write such a name.
COMPARE, CONCAT, CUT = "gguf:compare", "gguf:concat", "gguf:cut"
EACH, KEY = "gguf:each", "gguf:key"

ROW = "row"
"""The name by which a template has the whole row: ``row["customer name"]``."""

_MAX_DEPTH = 100

_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.NSRef, nodes.Const),
    *(nodes.For, nodes.If, nodes.Assign, nodes.AssignBlock, nodes.With, nodes.Scope),
    *(nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.Break, nodes.Continue),
    *(nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.CondExpr),
    *(nodes.Filter, nodes.Test, nodes.Call, nodes.Getitem, nodes.Getattr, nodes.Slice),
    *(nodes.Concat, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not),
    *(nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow),
    *(nodes.Neg, nodes.Pos),
)
_FILES = "A template is one text here; there are no others to take things from"
_REFUSED: dict[type[nodes.Node], tuple[str, str]] = {
    nodes.Include: ("{% include %} is not possible", _FILES),
    nodes.Import: ("{% import %} is not possible", _FILES),
    nodes.FromImport: ("{% from %} is not possible", _FILES),
    nodes.Extends: ("{% extends %} is not possible", _FILES),
    nodes.Block: ("{% block %} means nothing", "Leave the tag out and keep what is in it"),
    nodes.ScopedEvalContextModifier: (
        "{% autoescape %} means nothing",
        "A prompt is not HTML: everything is written as it is",
    ),
}


def fail(line: int, problem: str, advice: str = "") -> NoReturn:
    """Refuse a template for what stands in one of its lines."""
    raise InvalidValueError(f"{problem} (line {line}).{f' {advice}.' if advice else ''}", line=line)


def check_nodes(tree: nodes.Template) -> None:
    """Refuse a template that holds anything but what is allowed.

    Raises
    ------
    InvalidValueError
        With `line` in its details.
    """
    stack: list[tuple[nodes.Node, int]] = [(tree, 0)]
    while stack:  # not recursive: the depth is one of the things to check
        node, depth = stack.pop()
        if depth > _MAX_DEPTH:
            fail(node.lineno, f"The template is nested more than {_MAX_DEPTH} deep")
        if type(node) not in _ALLOWED:
            problem, advice = _REFUSED.get(
                type(node), (f"{type(node).__name__} is not possible", "")
            )
            fail(node.lineno, f"{problem} in a prompt", advice)
        _check(node)
        stack.extend((child, depth + 1) for child in node.iter_child_nodes())


def _check(node: nodes.Node) -> None:
    line = node.lineno
    match node:
        case nodes.Name():
            _check_name(node)
        case nodes.Const(value=float(value)) if not math.isfinite(value):
            fail(line, "A number in the template is too large")
        case nodes.Getattr(attr=str(name)) | nodes.NSRef(attr=str(name)):
            _check_attribute(line, name)
        case nodes.Getitem(arg=nodes.Const(value=str(name))):
            # row["_id"] is a column; anywhere else nothing good begins so.
            if not (isinstance(node.node, nodes.Name) and node.node.name == ROW):
                _check_attribute(line, name)
        case nodes.For(recursive=True):
            fail(line, "A loop that calls itself (recursive) is not possible in a prompt")
        case nodes.Filter(name=name):
            _check_known(line, name, FILTERS, "filter")
        case nodes.Test(name=name):
            _check_known(line, name, TESTS, "test")
        case nodes.Keyword(key=key) if key.startswith("_"):
            fail(line, f'A name that begins with _ is not possible here: "{key}"')
        case nodes.Macro():
            _check_known_name(line, node.name)
        case _:
            pass
    if isinstance(node, nodes.Call | nodes.Filter | nodes.Test):
        _check_call(node)


def _check_name(node: nodes.Name) -> None:
    name, line = node.name, node.lineno
    if node.ctx != "load":
        _check_known_name(line, name)
    if name == "self":
        fail(line, '"self" means nothing in a prompt', 'A column of that name is row["self"]')
    if unicodedata.normalize("NFKC", name) != name:
        # Python takes two such names for one, so one column would be printed for the other.
        fail(line, f'The name "{name}" has letters that have a second form', f'Write row["{name}"]')


def _check_known_name(line: int, name: str) -> None:
    if name == ROW:
        fail(
            line,
            f'"{ROW}" stands for the whole row of the table and cannot be set',
            "Choose another name, in a loop as well",
        )


def _check_attribute(line: int, name: str) -> None:
    if name.startswith("_"):
        fail(
            line,
            f'The template asks for "{name[:40]}"; names that begin with _ are not to be had',
            'A column whose name begins so is row["_name"]',
        )


def _check_known(line: int, name: str, table: dict[str, Any], what: str) -> None:
    if name in table:
        return
    near = difflib.get_close_matches(name, table, n=1)
    known = ", ".join(sorted(key for key in table if key.isalpha()))
    fail(
        line,
        f'There is no {what} called "{name[:40]}"'
        + (f'; did you mean "{near[0]}"?' if near else ""),
        f"The {what}s are: {known}",
    )


def _check_call(node: nodes.Call | nodes.Filter | nodes.Test) -> None:
    line = node.lineno
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        fail(line, "Arguments with * or ** are not possible in a prompt")
    names = [keyword.key for keyword in node.kwargs if isinstance(keyword, nodes.Keyword)]
    if len(set(names)) < len(names):
        fail(line, "An argument is given twice")
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name | nodes.Getattr):
        called = node.node.name if isinstance(node.node, nodes.Name) else node.node.attr
        if called in ("format", "format_map") and isinstance(node.node, nodes.Getattr):
            fail(line, "Texts have no .format() here", 'Write "%.2f"|format(price)')
        if called == "range" and isinstance(node.node, nodes.Name):
            _check_range(line, node.args)


def _check_range(line: int, args: Iterable[nodes.Node]) -> None:
    # Only what is written as plain numbers; the rest is judged when it runs.
    bounds = [arg.value for arg in args if isinstance(arg, nodes.Const)]
    if len(bounds) == len(list(args)) and all(type(bound) is int for bound in bounds):
        try:
            length = len(range(*bounds))
        except (TypeError, ValueError):
            return
        except OverflowError:
            length = MAX_RANGE + 1
        if length > MAX_RANGE:
            fail(line, f"The template asks for a range of more than {MAX_RANGE:,} numbers")


class _Guard(NodeTransformer):
    def visit_Output(self, node: nodes.Output) -> nodes.Output:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        # As a constant it goes through `finalize`, which counts it; text as such would not.
        node.nodes = [
            nodes.Const(child.data, lineno=child.lineno)
            if isinstance(child, nodes.TemplateData)
            else child
            for child in node.nodes
        ]
        return node

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        self.generic_visit(node)
        node.iter = _call(EACH, node.iter)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        rest: list[nodes.Expr] = []
        for operand in node.ops:
            rest += [nodes.Const(operand.op, lineno=node.lineno), operand.expr]
        return _call(COMPARE, node.expr, *rest)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call(CONCAT, *node.nodes)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        nothing: nodes.Expr = nodes.Const(None, lineno=node.lineno)
        bounds = (node.arg.start, node.arg.stop, node.arg.step)
        return _call(CUT, node.node, *(bound or nothing for bound in bounds))

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:  # noqa: N802
        self.generic_visit(node)
        # A key is hashed in its whole depth, by recursion that Python does not limit.
        node.key = _call(KEY, node.key)
        return node


def guard(tree: nodes.Template) -> nodes.Template:
    """Return the tree with its costly parts under guard; the tree given is changed."""
    guarded: nodes.Template = _Guard().visit(tree)
    return guarded


def _call(name: str, value: Any, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(args), [], None, None, lineno=value.lineno)
