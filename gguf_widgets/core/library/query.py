"""Words, orders and properties by which a list of models is searched, sorted and filtered.

Promises: functions from one entry to an answer; a name or a value that there is not is refused,
with the nearest that is. Leaves to others: the list itself (`model_list`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.library.entry import ModelEntry
from gguf_widgets.core.library.facts import CAPABILITIES
from gguf_widgets.core.library.judge import VERDICTS
from gguf_widgets.core.library.sources import TITLES, program_key

__all__ = ["SORT_KEYS", "filter_test", "search_test", "sort_key"]

_Test = Callable[[ModelEntry], bool]


def _natural(text: str) -> list[tuple[int, int | str]]:
    """Return a key that puts model 9 before model 10."""
    parts = re.findall(r"\d+|\D+", text.casefold())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def _of_info(name: str) -> Callable[[ModelEntry], Any]:
    return lambda entry: getattr(entry.info, name) if entry.info is not None else None


def _by_fit(entry: ModelEntry) -> int | None:
    fit = entry.fit
    return None if fit is None else VERDICTS.index(fit.verdict)


# What a list can be sorted by; None is unknown and comes last either way.
SORT_KEYS: Final[dict[str, Callable[[ModelEntry], Any]]] = {
    "name": lambda entry: _natural(entry.name),
    "size": _of_info("size_bytes"),
    "parameters": _of_info("num_parameters"),
    "quantization": _of_info("quantization"),
    "context": _of_info("n_ctx_train"),
    "architecture": _of_info("architecture"),
    "source": lambda entry: _natural(entry.source),
    "last_used": lambda entry: entry.last_used,
    "fits": _by_fit,
}


def search_test(words: str) -> _Test:
    """Return what says whether all words occur in an entry; see `ModelList.search`."""
    if not isinstance(words, str):
        raise InvalidValueError(
            f"What to search for is a text, such as 'qwen 4b', not {words!r:.80}.", name="words"
        )
    patterns = [
        re.compile((r"(?<![\d.])" if word[0].isdigit() else "") + re.escape(word))
        for word in words.casefold().split()
    ]
    return lambda entry: all(pattern.search(_searched(entry)) for pattern in patterns)


def sort_key(name: str) -> Callable[[ModelEntry], Any]:
    """Return what a list is sorted by; see `ModelList.sort`."""
    if name not in SORT_KEYS:
        raise _unknown("sorted by", name, SORT_KEYS)
    return SORT_KEYS[name]


def filter_test(name: str, value: Any, models: Iterable[ModelEntry]) -> _Test:
    """Return what says whether an entry of a list has a property; see `ModelList.filter`."""
    if name not in _TESTS:
        raise _unknown("filtered by", name, _TESTS)
    return _TESTS[name](value, models)


def _searched(entry: ModelEntry) -> str:
    texts = [entry.name, entry.source, entry.program, TITLES.get(entry.program, "")]
    if entry.info is not None:
        texts += [entry.info.name, entry.info.architecture, entry.info.quantization]
    for place in entry.places:
        texts += [place.path.name, place.label, place.source]
    return "\n".join(texts).casefold()


def _test_fits(value: Any, _models: Iterable[ModelEntry]) -> _Test:
    if isinstance(value, bool):
        return lambda entry: (fit := entry.fit) is not None and fit.fits is value
    if value not in VERDICTS:
        raise _unknown("filtered by fits of", value, ["True", "False", *VERDICTS])
    return lambda entry: (fit := entry.fit) is not None and fit.verdict == value


def _test_source(value: Any, models: Iterable[ModelEntry]) -> _Test:
    if not isinstance(value, str):
        raise _unknown("filtered by source of", value, TITLES)
    folders = {place.source for entry in models for place in entry.places}
    if value in folders and value not in TITLES.values():
        return lambda entry: any(place.source == value for place in entry.places)
    key = program_key(value)
    return lambda entry: any(place.program == key for place in entry.places)


def _test_capability(value: Any, _models: Iterable[ModelEntry]) -> _Test:
    wanted = [value] if isinstance(value, str) else value
    if not isinstance(wanted, Iterable):
        raise _unknown("filtered by capability of", value, CAPABILITIES)
    wanted = list(wanted)
    for one in wanted:
        if one not in CAPABILITIES:
            raise _unknown("filtered by capability of", one, CAPABILITIES)
    return lambda entry: set(wanted) <= set(entry.capabilities)


def _test_usable(value: Any, _models: Iterable[ModelEntry]) -> _Test:
    if not isinstance(value, bool):
        raise _unknown("filtered by usable of", value, ["True", "False"])
    return lambda entry: (entry.error is None) is value


_TESTS: Final[dict[str, Callable[[Any, Iterable[ModelEntry]], _Test]]] = {
    "fits": _test_fits,
    "source": _test_source,
    "capability": _test_capability,
    "usable": _test_usable,
}


def _unknown(what: str, value: Any, known: Iterable[str]) -> InvalidValueError:
    names = list(known)
    near = difflib.get_close_matches(str(value), names, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names)}."
    return InvalidValueError(
        f"Models cannot be {what} {value!r:.80}. {hint}", value=str(value)[:80]
    )
