"""A prompt in Jinja: loops and conditions over a row's values, in a sandbox.

Promises: Jinja's own syntax, scopes and filters; nothing of Python can be reached from a template,
and none runs for long or fills the memory, on any row: what could is refused when the template is
read, or in that row, by line. Leaves to others: which columns there are (`template`), missing
values (`missing`), how a value is written (`template_text`).

What a template has
-------------------
- each column whose name is a plain word, by its name: ``{{ review }}``;
- any column by ``row["customer name"]``; ``row`` by itself is a dict of the whole row, for
  ``{% for name, value in row.items() %}``;
- ``range``, ``namespace``, ``dict``, and `FILTERS` and `TESTS`;
- macros, ``{% set %}``, ``{% with %}``, ``{% break %}`` and ``{% continue %}``.

What differs from plain Jinja
-----------------------------
- A line that holds only a tag leaves no empty line (``trim_blocks``, ``lstrip_blocks``), as in the
  chat templates of models; a line break at the end is kept.
- A value prints as it would by ``{column}``; ``none`` prints as nothing.
- A name that does not exist is an error, not an empty text.

How it is kept harmless
-----------------------
Four walls, each of which would hold for most of what people try: only listed kinds of nodes get
through (`template_jinja_rewrite`); a template meets plain values only, never an object (`plain`);
of a value only listed methods can be reached (`template_jinja_values`); every step is paid for
before it is done (`template_jinja_budget`). Jinja's sandbox stands behind them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context

from gguf_widgets.batch.template_format import Place
from gguf_widgets.batch.template_jinja_budget import (
    BUDGET_KEY,
    Budget,
    Probe,
    RefusedError,
    TooMuchError,
    budget_of,
    with_budget,
)
from gguf_widgets.batch.template_jinja_filters import FILTERS
from gguf_widgets.batch.template_jinja_names import free_names
from gguf_widgets.batch.template_jinja_ops import BINARY, binary, compare, concat, cut, kind_of
from gguf_widgets.batch.template_jinja_rewrite import (
    COMPARE,
    CONCAT,
    CUT,
    EACH,
    KEY,
    ROW,
    check_nodes,
    fail,
    guard,
)
from gguf_widgets.batch.template_jinja_tests import TESTS
from gguf_widgets.batch.template_jinja_values import (
    GLOBALS,
    Counted,
    Function,
    attribute_of,
    item_of,
    show,
)
from gguf_widgets.batch.template_text import MAX_CHARS, NoTextError, plain
from gguf_widgets.core.errors import InvalidValueError, RowError

__all__ = ["JinjaText"]

_MAX_TOKENS = 20_000
_MAX_BRACKETS = 50
_FILE = "<gguf_widgets template>"
_TEXT_TOKENS = {"data", "whitespace", "comment", "comment_begin", "comment_end"}


class JinjaText:
    """One text with Jinja in it.

    Parameters
    ----------
    source : str

    Attributes
    ----------
    columns : tuple of str
        The names that it takes from the table, each once, in order of first use.
    whole_row : bool
        Whether it uses the row as a whole, or columns whose names it works out: then every column
        may be used.

    Raises
    ------
    InvalidValueError
        With `line` in its details, if the text is no template or holds what is not allowed.
    """

    def __init__(self, source: str) -> None:
        tree = _parsed(source)
        check_nodes(tree)
        free, self._stored = free_names(tree)
        _check_order(free, _looked_up(tree))
        in_row, self.whole_row = _columns_of_row(tree) if ROW in free else ({}, False)
        named = {name: line for name, line in free.items() if name not in GLOBALS and name != ROW}
        lines = dict(in_row)
        for name, line in named.items():
            lines[name] = min(line, lines.get(name, line))
        self._lines = dict(sorted(lines.items(), key=lambda item: item[1]))
        self._named = tuple(named)
        self._uses_row = ROW in free
        self.columns = tuple(self._lines)
        self._plain_text = _plain_text(source)
        self._template = _compiled(tree)

    def place_of(self, column: str) -> Place:
        """Return the line where a column is used first; its position in it is not known (0)."""
        return Place(self._lines[column], 0)

    def sets(self, name: str) -> bool:
        """Return whether the template itself sets a name somewhere."""
        return name in self._stored

    def unfilled(self, columns: set[str]) -> tuple[str, int] | None:
        """Return a column that stands in single braces, which Jinja leaves as they are; its line.

        Only worth asking where the syntax was guessed. What stands between ``{% raw %}`` and
        ``{% endraw %}`` is said to be text.
        """
        for line, text in self._plain_text:
            for piece in text.split("{")[1:]:
                inside, closed, _ = piece.partition("}")
                if closed:
                    for name in (inside, inside.partition(":")[0], inside.partition("!")[0]):
                        if name in columns:
                            return name, line
        return None

    def render(self, values: Mapping[str, Any], literal: Mapping[str, str | None]) -> str:
        """Return the text for one row.

        Parameters
        ----------
        values : mapping
            The values by column.
        literal : mapping
            What stands in for missing values: a text, or None for nothing.

        Raises
        ------
        RowError
            With `line` in its details, if the template fails on this row.
        """
        given = {}
        for name, value in values.items():
            try:
                given[name] = literal[name] if name in literal else plain(value)
            except NoTextError as error:
                raise RowError(f'Column "{name}" {error}.', column=name) from error
        parts, length = [], 0
        try:
            for part in self._pieces(given):
                length += len(part)
                _check_length(length)
                parts.append(part)
        except Exception as error:  # whatever a template runs into is the row's error, by its line
            line = _line_of(error.__traceback__)
            raise RowError(
                f"{f'Line {line} of the template' if line else 'The template'} {_words(error)}.",
                line=line,
            ) from error
        return "".join(parts)

    def shared_beginning(self) -> tuple[str, bool]:
        """Return the text before the first thing that depends on the row, and whether it is all."""
        text, error = self._before_row()
        return text, error is None

    def fails_always(self) -> str | None:
        """Return what is too much in this template, whatever the row, in words; None if nothing."""
        _, error = self._before_row()
        if not isinstance(error, TooMuchError):
            return None
        line = _line_of(error.__traceback__)
        return f"{f'Line {line} of the template' if line else 'The template'} {error}."

    def _before_row(self) -> tuple[str, Exception | None]:
        """Run the template up to the first use of the row; return the text, and what ended it."""
        probe = Probe()
        parts, length = [], 0
        try:
            for part in self._pieces(dict.fromkeys(self._named, probe), row=probe):
                length += len(part)
                _check_length(length)
                parts.append(part)
        except Exception as error:  # noqa: BLE001 - what may depend on the row is its error later
            return "".join(parts), error
        return "".join(parts), None

    def _pieces(self, given: dict[str, Any], row: Any = None) -> Iterator[str]:
        variables: dict[str, Any] = {name: given[name] for name in self._named}
        if self._uses_row:
            variables[ROW] = given if row is None else row
        variables[BUDGET_KEY] = Budget()
        context = self._template.new_context(variables)
        # Not Template.generate: it rewrites tracebacks, and the line is found without that.
        yield from self._template.root_render_func(context)


def _looked_up(tree: nodes.Template) -> set[str]:
    """Return the names that Jinja will ask the row for."""
    generator = meta.TrackingCodeGenerator(_ENVIRONMENT)
    generator.optimizer = None  # which would work out parts of the template, unpaid for
    generator.visit(tree)
    return generator.undeclared_identifiers


def _check_order(free: dict[str, int], looked_up: set[str]) -> None:
    """Refuse a name that Jinja takes for the template's own although it is used before it is set.

    Jinja decides it by where the name is set, not by when: the column would be out of reach.
    """
    for name, line in free.items():
        if name not in looked_up and name not in GLOBALS:
            fail(
                line,
                f'The template uses "{name}" before it sets it',
                "Choose another name for what is set",
            )


def _check_length(length: int) -> None:
    if length > MAX_CHARS:
        raise TooMuchError(f"makes a prompt of more than {MAX_CHARS:,} characters")


def _columns_of_row(tree: nodes.Template) -> tuple[dict[str, int], bool]:
    """Return the columns that ``row[...]`` names, and whether there are uses that name none."""
    named: dict[str, int] = {}
    num_named = 0
    for node in tree.find_all((nodes.Getitem, nodes.Getattr, nodes.Call)):
        found: Any = None
        match node:
            case nodes.Getitem(node=nodes.Name(name="row"), arg=nodes.Const(value=found)):
                pass
            case nodes.Getattr(node=nodes.Name(name="row"), attr=found):
                if attribute_of({}, found) is not NotImplemented:  # row.items() and its like
                    continue
            case nodes.Call(
                node=nodes.Getattr(node=nodes.Name(name="row"), attr="get"),
                args=[nodes.Const(value=found), *_],
            ):
                pass
        if isinstance(found, str):
            num_named += 1
            named.setdefault(found, node.lineno)
    uses = sum(1 for name in tree.find_all(nodes.Name) if name.name == ROW)
    return named, uses > num_named


# Reading a template.


def _plain_text(source: str) -> list[tuple[int, str]]:
    """Return what a template writes as it stands, by line, without what is said to be raw."""
    found, is_raw = [], False
    for line, token, value in _ENVIRONMENT.lex(source):
        if token in ("raw_begin", "raw_end"):
            is_raw = token == "raw_begin"  # noqa: S105 - not a password
        elif token == "data" and not is_raw:  # noqa: S105 - as above
            found.append((line, value))
    return found


def _parsed(source: str) -> nodes.Template:
    num_tokens = brackets = 0
    try:
        for line, token, value in _ENVIRONMENT.lex(source):
            if token in _TEXT_TOKENS:
                continue
            num_tokens += 1
            if token == "operator":  # noqa: S105 - not a password
                brackets += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(value, 0)
            if brackets > _MAX_BRACKETS:
                fail(line, f"The template has brackets more than {_MAX_BRACKETS} deep")
            if num_tokens > _MAX_TOKENS:
                fail(
                    line, f"The template has more than {_MAX_TOKENS:,} words and signs in its tags"
                )
        return _ENVIRONMENT.parse(source)
    except jinja2.TemplateSyntaxError as error:
        raise _syntax_error(source, error.lineno, error.message or "") from error
    except (RecursionError, MemoryError) as error:
        raise InvalidValueError("The template is nested too deep to be read.") from error
    except ValueError as error:
        if isinstance(error, InvalidValueError):
            raise
        # Python reads no whole number of more than some thousands of digits.
        raise InvalidValueError("A number in the template is too long to be read.") from error


def _compiled(tree: nodes.Template) -> jinja2.Template:
    guarded = guard(tree)
    guarded.set_environment(_ENVIRONMENT)
    try:
        code = _ENVIRONMENT.compile(guarded, name=None, filename=_FILE)
    except jinja2.TemplateSyntaxError as error:
        raise _syntax_error("", error.lineno, error.message or "") from error
    except SyntaxError as error:
        # Python's own limits, as Jinja makes Python of it: twenty loops in each other, for one.
        raise InvalidValueError(
            f"The template has loops, macros or conditions nested too deep ({error.msg}). Make it "
            "simpler."
        ) from error
    except (RecursionError, MemoryError) as error:
        raise InvalidValueError("The template is nested too deep to be read.") from error
    return jinja2.Template.from_code(_ENVIRONMENT, code, dict(_ENVIRONMENT.globals))


def _syntax_error(source: str, line: int, message: str) -> InvalidValueError:
    lines = source.splitlines()
    shown = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    shown = shown if len(shown) <= 60 else shown[:60] + "..."
    message = message.rstrip(".")
    return InvalidValueError(
        f"The template cannot be understood (line {line}): {message}."
        f"{f' The line reads: {shown}' if shown else ''}",
        line=line,
    )


# Running it.


class _Environment(ImmutableSandboxedEnvironment):
    # Also what keeps Jinja from working these out while it compiles.
    intercepted_binops = frozenset(BINARY)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        return binary(budget_of(context), operator, left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self._found(obj, attribute, attribute_of(obj, attribute))

    def getitem(self, obj: Any, argument: Any) -> Any:
        return self._found(obj, argument, item_of(obj, argument))

    def _found(self, obj: Any, name: Any, found: Any) -> Any:
        if found is not NotImplemented:
            return found
        if isinstance(obj, jinja2.Undefined):
            bool(obj)  # raises what it has to say
        return self.undefined(f'asks for "{str(name)[:40]}", which {kind_of(obj)} lacks')

    def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("_loop_vars", None)  # Jinja's own, for functions that want the context
        kwargs.pop("_block_vars", None)
        budget = budget_of(context)
        budget.spend(1 + len(args))
        if type(called) is Function:
            return called.call(budget, args, kwargs)
        if type(called) is Macro:
            with budget.inside_call():
                return called(*args, **kwargs)
        budget.read(called)
        raise RefusedError(f"calls {kind_of(called)}, which is no function")


@pass_context
def _finalize(context: Context, value: Any) -> str:
    budget = budget_of(context)
    text = show(budget, value)
    budget.make(len(text))
    return text


def _each(budget: Budget, values: Any) -> Counted:
    if not isinstance(values, str | list | tuple | dict | range):
        budget.read(values)
        advice = ""
        if values is None:
            advice = ". Write {% for part in parts or [] %} to pass over what is missing"
        raise RefusedError(f"loops over {kind_of(values)}, which is no list{advice}")
    budget.spend(1)
    return Counted(budget, values)


def _key(budget: Budget, value: Any) -> Any:
    budget.read(value)
    if not isinstance(value, str | int | float | None):
        raise RefusedError(f"has {kind_of(value)} as a key of a dict; a key is a text or a number")
    return value


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        optimized=False,  # nothing of a template is worked out before it is paid for
        finalize=_finalize,
        extensions=["jinja2.ext.loopcontrols"],
        cache_size=0,
    )
    environment.globals = dict(GLOBALS)
    environment.filters = {
        **FILTERS,
        EACH: with_budget(EACH, _each),
        KEY: with_budget(KEY, _key),
        COMPARE: with_budget(COMPARE, compare),
        CONCAT: with_budget(CONCAT, concat),
        CUT: with_budget(CUT, cut),
    }
    environment.tests = dict(TESTS)
    return environment


_ENVIRONMENT = _environment()


def _line_of(traceback: TracebackType | None) -> int | None:
    """Return the template's line of the innermost frame that is the template's own."""
    line = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename == _FILE:
            template = traceback.tb_frame.f_globals.get("__jinja_template__")
            if isinstance(template, jinja2.Template):
                line = template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return line


def _words(error: Exception) -> str:
    if isinstance(error, RefusedError):
        return str(error)
    if isinstance(error, NoTextError):
        return f"prints a value that {error}"
    if isinstance(error, jinja2.UndefinedError):
        message = str(error)
        return message if message.startswith("asks for") else f"uses what is not there: {message}"
    if isinstance(error, ZeroDivisionError):
        return "divides by zero"
    if isinstance(error, RecursionError):
        return "is nested too deep"
    return f"fails on this row: {str(error) or type(error).__name__}"
