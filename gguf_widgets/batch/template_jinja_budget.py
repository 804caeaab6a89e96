"""How much one rendering of a Jinja template may do.

Promises: every turn of a loop, every call and every operation is paid for from one budget *before*
it is done, in proportion to what it reads and to what it makes, so no template runs for long or
fills the memory, however it is nested. Steps are counted, not seconds: the same template fails on
the same row on every machine, or on none. Leaves to others: charging (`template_jinja_values`,
`template_jinja_ops`, `template_jinja_filters`).

Why the whole depth of a value is paid for when it is read: ``{% set a = [a, a] %}`` forty times
takes forty steps and makes a list that would print as a million million values.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any

from jinja2.runtime import Context, StrictUndefined, Undefined
from jinja2.utils import pass_context

from gguf_widgets.batch.template_text import MAX_CHARS

__all__ = [
    "BUDGET_KEY",
    "MAX_RANGE",
    "MAX_STEPS",
    "Budget",
    "DependsOnRowError",
    "Probe",
    "RefusedError",
    "TooMuchError",
    "budget_of",
    "call",
    "with_budget",
]

BUDGET_KEY = "gguf_widgets:budget"  # where it stands in a context; no name can be written so

MAX_STEPS = 2_000_000
MAX_RANGE = 100_000  # numbers that range() gives; Jinja's sandbox has the same limit
_MAX_CALLS = 30  # macros that call macros; each needs half a dozen of Python's own frames
_MAX_CPU_S = 20.0  # in case something costs more than it is charged: ten times what steps can take
_READ_SHIFT = 8  # 256 characters are read in one step
_MADE_SHIFT = 5  # 32 characters are made in one step
_MAX_DEPTH = 60  # of lists in lists; Python hashes and compares them by recursion in C

_LEAVES = (str, bool, int, float, Decimal, date, time_of_day, timedelta, type(None))


class RefusedError(Exception):
    """The template asked for something that is not allowed, or for too much; says so in words."""


class TooMuchError(RefusedError):
    """The template asked for too much: too many steps, too long a text, too deep."""


class DependsOnRowError(Exception):
    """A `Probe` was used: from here on, the text depends on the row."""


class Probe:
    """Stands for a column's value when what all rows share is looked for: any use of it raises."""

    def _used(self, *_args: Any) -> Any:
        raise DependsOnRowError

    __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _used
    __index__ = __int__ = __float__ = __format__ = _used
    __str__ = __len__ = __iter__ = __getitem__ = __neg__ = __pos__ = __contains__ = _used
    __hash__ = None  # type: ignore[assignment]


class Budget:
    """The steps that are left to one rendering."""

    __slots__ = ("_calls", "_deadline", "_until_look", "left")

    def __init__(self) -> None:
        self.left = MAX_STEPS
        self._calls = 0
        # This thread's own time, so that a busy machine makes no template fail.
        self._deadline = time.thread_time() + _MAX_CPU_S
        self._until_look = 1000

    def spend(self, steps: int) -> None:
        """Take steps from what is left.

        Raises
        ------
        RefusedError
            If there are not enough.
        """
        self.left -= steps
        if self.left < 0:
            raise TooMuchError(
                f"does too much: more than {MAX_STEPS:,} steps for one row. Make its loops "
                "shorter, or prepare the text in a column of its own first"
            )
        self._until_look -= 1
        if self._until_look < 0:
            self._until_look = 1000
            if time.thread_time() > self._deadline:
                raise TooMuchError(f"took more than {_MAX_CPU_S:.0f} s of computing for one row")

    def read(self, value: Any) -> int:
        """Pay for looking at a value in its whole depth; refuse what is no plain value.

        Returns
        -------
        int
            The characters of all texts in it.

        Raises
        ------
        RefusedError
        jinja2.UndefinedError
            If the value is one that does not exist.
        """
        if type(value) is str:
            self.spend(1 + (len(value) >> _READ_SHIFT))
            return len(value)
        num_chars = depth = 0
        level = [value]
        while level:
            depth += 1
            if depth > _MAX_DEPTH:
                raise TooMuchError(f"has lists in lists, more than {_MAX_DEPTH} deep")
            inside: list[Any] = []
            for item in level:
                self.spend(1)
                if isinstance(item, str):
                    self.spend(len(item) >> _READ_SHIFT)
                    num_chars += len(item)
                elif isinstance(item, list | tuple):
                    self.spend(len(item))
                    inside.extend(item)
                elif isinstance(item, dict):
                    self.spend(2 * len(item))
                    inside.extend(item)
                    inside.extend(item.values())
                elif isinstance(item, range):
                    self.spend(len(item))
                elif not isinstance(item, _LEAVES):
                    _refuse(item)
            level = inside
        return num_chars

    def make(self, num_chars: int) -> None:
        """Pay for a text of so many characters, before it is made."""
        if num_chars > 2 * MAX_CHARS:
            raise TooMuchError(
                f"makes a text of {num_chars:,} characters; a prompt can have {MAX_CHARS:,}"
            )
        self.spend(1 + (max(num_chars, 0) >> _MADE_SHIFT))

    @contextmanager
    def inside_call(self) -> Iterator[None]:
        """Count how deep macros call each other."""
        self.spend(10)
        self._calls += 1
        if self._calls > _MAX_CALLS:
            raise TooMuchError(f"has macros that call each other more than {_MAX_CALLS} deep")
        try:
            yield
        finally:
            self._calls -= 1


def _refuse(value: Any) -> None:
    if type(value) is Probe:
        raise DependsOnRowError
    if isinstance(value, StrictUndefined):
        bool(value)  # raises what it has to say
    if isinstance(value, Undefined):
        return  # "if" without "else" in {{ }}: Jinja takes it for an empty text
    name = getattr(value, "called", None) or type(value).__name__.lower()
    raise RefusedError(f"uses {name} as if it were a value")


def budget_of(context: Context) -> Budget:
    """Return the budget of the rendering that a context belongs to."""
    budget: Budget = context.parent[BUDGET_KEY]
    return budget


def with_budget(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a filter or test of a function that takes the budget first."""

    @pass_context
    def run(context: Context, *args: Any, **kwargs: Any) -> Any:
        return call(name, function, budget_of(context), *args, **kwargs)

    return run


def call(name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function for a template; if the arguments do not fit, say so in a template's words."""
    try:
        return function(*args, **kwargs)
    except TypeError:
        try:
            inspect.signature(function).bind(*args, **kwargs)
        except TypeError:
            raise RefusedError(f'gives "{name}" other arguments than it takes') from None
        raise
