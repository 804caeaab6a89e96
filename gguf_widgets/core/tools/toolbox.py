"""A Python function as a tool: what a model is told of it, and how it is called.

Promises: a function that cannot be described is refused when it is handed over, by its name and the
parameter's; what `Tool.bind` returns are values of the annotations, so that the function gets what
it asked for. Leaves to others: annotations (`annotations`), running (`run`), asking the person
(`core.chat.tools`).
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.tools import docstrings
from gguf_widgets.core.tools.annotations import Describing
from gguf_widgets.core.tools.kinds import Kind, plain_default

__all__ = ["MAX_TOOLS", "Tool", "ToolBox", "as_box", "tool"]

MAX_TOOLS = 64
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_MAX_ROUNDS = 100
_MAX_TIMEOUT_S = 24 * 3600.0


class Tool:
    """A function that a model may ask for; made by `tool`, or by handing the function over.

    Parameters
    ----------
    function : callable
        With annotated parameters. It may be ``async``.
    name : str, optional
        What the model calls it; default the function's name. Letters, digits, ``_`` and ``-``.
    description : str, optional
        Default: the docstring before its first section.
    approve : bool, default True
        Whether a person is asked before each call. False says that the function is safe to run
        with whatever arguments a model thinks of.
    timeout_s : float, optional
        How long it may take; default the tool box's.

    Attributes
    ----------
    parameters : dict
        The JSON schema of its arguments, an object.
    schema : dict
        The whole tool in OpenAI's form: ``{"type": "function", "function": {...}}``.

    Raises
    ------
    InvalidValueError
        It cannot be described; the message says which parameter, and why.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        approve: bool = True,
        timeout_s: float | None = None,
    ) -> None:
        if not callable(function) or isinstance(function, type):
            raise InvalidValueError(
                f"A tool is a function, and this is {function!r:.80}.", value=repr(function)[:80]
            )
        self.function = function
        self.name = _checked_name(function, name)
        self.approve = bool(approve)
        self.timeout_s = None if timeout_s is None else checked_timeout(timeout_s, self.name)
        called = _callable_itself(function)
        self.is_async = inspect.iscoroutinefunction(called)
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            raise InvalidValueError(
                f"The tool {self.name!r} yields its results one by one. Return them, as a list."
            )
        said = docstrings.read(inspect.getdoc(function))
        self.description = (description if description is not None else said.summary).strip()
        describing = Describing()
        self._kinds: dict[str, Kind] = {}
        self._needed: list[str] = []
        properties: dict[str, Any] = {}
        for parameter, annotation in _parameters(function, called, self.name):
            where = f"The parameter {parameter.name!r} of the tool {self.name!r}"
            kind = describing.kind(annotation, where)
            self._kinds[parameter.name] = kind
            schema = dict(kind.schema)
            words = said.parameters.get(parameter.name)
            if words and "description" not in schema:
                schema["description"] = words
            if parameter.default is inspect.Parameter.empty:
                self._needed.append(parameter.name)
            else:
                schema |= plain_default(parameter.default) or {}
            properties[parameter.name] = schema
        self.parameters: dict[str, Any] = {
            "type": "object",
            "properties": properties,
            "required": list(self._needed),
            "additionalProperties": False,
        }
        if describing.definitions:
            self.parameters["$defs"] = describing.definitions
        self.schema: dict[str, Any] = {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": self.parameters,
            },
        }
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, as if it were no tool."""
        return self.function(*args, **kwargs)

    def bind(self, arguments: Any) -> dict[str, Any]:
        """Return a call's arguments as the function takes them.

        Parameters
        ----------
        arguments : dict
            As they came from JSON.

        Raises
        ------
        InvalidValueError
            One is missing, not known, or not what its annotation says.
        """
        if not isinstance(arguments, dict):
            raise InvalidValueError(f"The arguments must be an object; this is {arguments!r:.60}.")
        unknown = [name for name in arguments if name not in self._kinds]
        if unknown:
            known = ", ".join(self._kinds) or "none"
            raise InvalidValueError(
                f"{self.name!r} has no parameter {unknown[0]!r:.60}; its parameters are: {known}."
            )
        missing = [name for name in self._needed if name not in arguments]
        if missing:
            raise InvalidValueError(f"{self.name!r} needs {missing[0]!r}, and it was not given.")
        return {name: self._kinds[name].take(value, name) for name, value in arguments.items()}

    def __repr__(self) -> str:
        return f"<Tool {self.name}({', '.join(self._kinds)})>"


@overload
def tool(function: Callable[..., Any], /, **options: Any) -> Tool: ...
@overload
def tool(function: None = None, /, **options: Any) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None, /, **options: Any
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a function a tool, with options: a call, or a decorator.

    Parameters
    ----------
    function : callable
    **options
        `name`, `description`, `approve`, `timeout_s`; see `Tool`.

    Examples
    --------
    >>> def add(a: int, b: int) -> int:
    ...     "Add two numbers."
    ...     return a + b
    >>> tool(add, approve=False)
    <Tool add(a, b)>
    """
    unknown = set(options) - {"name", "description", "approve", "timeout_s"}
    if unknown:
        raise InvalidValueError(
            f"tool() has no option {min(unknown)!r}; it has name, description, approve and"
            " timeout_s."
        )
    if function is None:
        return lambda later: Tool(later, **options)
    if isinstance(function, Tool):
        kept = {
            "name": function.name,
            "description": function.description,
            "approve": function.approve,
            "timeout_s": function.timeout_s,
        }
        return Tool(function.function, **{**kept, **options})
    return Tool(function, **options)


class ToolBox:
    """The tools of a chat.

    Parameters
    ----------
    tools : list or tuple of callable or Tool
        At most 64, each with a name of its own.
    timeout_s : float, default 60
        How long a call may take, in seconds, unless the tool says otherwise.
    max_rounds : int, default 8
        How often in a row the model may ask for tools before it has to answer.

    Raises
    ------
    InvalidValueError
        A function cannot be described, two have one name, or a value is out of range.
    """

    def __init__(
        self,
        tools: Sequence[Callable[..., Any] | Tool] | ToolBox = (),
        *,
        timeout_s: float = 60.0,
        max_rounds: int = 8,
    ) -> None:
        if not isinstance(tools, list | tuple | ToolBox):
            raise InvalidValueError(
                f"tools is a list of functions, and this is {tools!r:.80}. Write tools=[...]."
            )
        self.timeout_s = checked_timeout(timeout_s, None)
        if isinstance(max_rounds, bool) or not isinstance(max_rounds, int):
            raise InvalidValueError(f"max_rounds is {max_rounds!r}; it is a whole number.")
        if not 1 <= max_rounds <= _MAX_ROUNDS:
            raise InvalidValueError(
                f"max_rounds is {max_rounds}; it must be from 1 to {_MAX_ROUNDS}."
            )
        self.max_rounds = max_rounds
        self._tools: dict[str, Tool] = {}
        for given in tools:
            one = given if isinstance(given, Tool) else Tool(given)
            if one.name in self._tools:
                raise InvalidValueError(
                    f"Two tools are called {one.name!r}. Give one of them another name:"
                    " gw.tool(function, name=...).",
                    name=one.name,
                )
            self._tools[one.name] = one
            if len(self._tools) > MAX_TOOLS:
                raise InvalidValueError(f"A chat can have at most {MAX_TOOLS} tools.")

    @property
    def names(self) -> list[str]:
        """Their names, in the order in which they were given."""
        return list(self._tools)

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """All of them in OpenAI's form."""
        return [one.schema for one in self._tools.values()]

    def get(self, name: str) -> Tool | None:
        """Return the tool of this name, if there is one."""
        return self._tools.get(name)

    def timeout_of(self, one: Tool) -> float:
        """Return how long a call of this tool may take, in seconds."""
        return self.timeout_s if one.timeout_s is None else one.timeout_s

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __repr__(self) -> str:
        return f"<ToolBox {', '.join(self._tools) or 'empty'}>"


def as_box(tools: Any) -> ToolBox:
    """Return tools as a box: None is an empty one, and a list is made one."""
    if tools is None:
        return ToolBox()
    return tools if isinstance(tools, ToolBox) else ToolBox(tools)


def _callable_itself(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function behind partial objects and objects that can be called."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    return type(function).__call__


def _checked_name(function: Callable[..., Any], name: str | None) -> str:
    given = name if name is not None else getattr(_inner(function), "__name__", "")
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        hint = " Give it one: gw.tool(function, name=...)." if name is None else ""
        raise InvalidValueError(
            f"{given!r:.80} cannot be a tool's name: letters, digits, _ and -, at most 64, a letter"
            f" first.{hint}",
            name=str(given)[:80],
        )
    return given


def _inner(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _parameters(
    function: Callable[..., Any], called: Callable[..., Any], name: str
) -> list[tuple[inspect.Parameter, Any]]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"The tool {name!r} does not say which parameters it has ({error}). Wrap it in a"
            " function of yours with annotations."
        ) from error
    try:
        hints = typing.get_type_hints(inspect.unwrap(called), include_extras=True)
    except Exception as error:  # names that do not exist, in text that anybody wrote
        raise InvalidValueError(
            f"The annotations of the tool {name!r} cannot be read: {error}."
        ) from error
    found = []
    for parameter in signature.parameters.values():
        where = f"The parameter {parameter.name!r} of the tool {name!r}"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise InvalidValueError(
                f"The tool {name!r} takes {stars}{parameter.name}: any number of arguments cannot"
                " be described to a model. Name each parameter.",
                tool=name,
                parameter=parameter.name,
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise InvalidValueError(
                f"{where} has no name for a caller (positional-only). Take the / out of the"
                " function's parameters.",
                tool=name,
                parameter=parameter.name,
            )
        annotation = hints.get(parameter.name, parameter.annotation)
        if annotation is inspect.Parameter.empty:
            raise InvalidValueError(
                f"{where} has no annotation, so the model cannot know what to give. Write for"
                f" example {parameter.name}: str.",
                tool=name,
                parameter=parameter.name,
            )
        found.append((parameter, annotation))
    return found


def checked_timeout(value: Any, name: str | None) -> float:
    """Return a time limit in seconds, or raise `InvalidValueError`."""
    whose = f" of the tool {name!r}" if name else ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValueError(f"timeout_s{whose} is {value!r}; it is a number of seconds.")
    if not 0 < value <= _MAX_TIMEOUT_S:
        raise InvalidValueError(
            f"timeout_s{whose} is {value}; it must be above 0 and at most {_MAX_TIMEOUT_S:.0f}"
            " seconds."
        )
    return float(value)
