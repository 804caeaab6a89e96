"""Comparing models, quantisations, settings and prompts: the same asked of each, and statistics.

``gguf_widgets.compare`` can be called: ``gw.compare([...], prompts)`` is `making.compare`; and it
holds what is needed to say more: `Side`, and the scorings `ExactMatch`, `Regex`, `JsonFields`,
`Similarity`, `Judge`, `Length`, `Time` and `Own`.

Promises: `compare`, `comparisons`, `resume_comparison` and `Comparison` are what a person needs.
Leaves to others: each file is about one thing. `sides` and `prompts` take what a person gives,
`definition` is that as plain values, `records` keeps it. `comparison` is what a person holds, on
`kept` and `result_methods`. `carrying` carries it out, here or in a ``process`` of its own:
`memory` loads, the batch runs of `gguf_widgets.batch` answer (a `block` at a time; `answers` reads
them), `scorer` scores (``scoring*``, `judge`; patterns in a process of their own,
`pattern_process`). `statistics` makes intervals, `sequential` is for looking before the end,
`results` are the figures and `verdicts` what they mean. `voting` is for people's judgement,
`parting` for where two answers part; `export` writes files, `showing` shows.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any

from gguf_widgets.batch.output import Output
from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.judge import Judge
from gguf_widgets.compare.making import compare, comparisons, prepare, resume_comparison
from gguf_widgets.compare.scoring import ExactMatch, Length, Own, Scoring, Time
from gguf_widgets.compare.scoring_json import JsonFields
from gguf_widgets.compare.scoring_regex import Regex
from gguf_widgets.compare.scoring_similarity import Similarity
from gguf_widgets.compare.sides import Side

__all__ = [
    "Comparison",
    "ExactMatch",
    "JsonFields",
    "Judge",
    "Length",
    "Output",
    "Own",
    "Regex",
    "Scoring",
    "Side",
    "Similarity",
    "Time",
    "compare",
    "comparisons",
    "prepare",
    "resume_comparison",
]


class _Callable(ModuleType):
    """A module that can be called.

    The package and the function have one name, and Python puts a package into its parent as soon as
    any part of it is imported; so ``gw.compare`` is this module, and calling it is comparing. (That
    a module may have a class of its own is Python's documented way to do such a thing.)
    """

    def __call__(self, *arguments: Any, **how: Any) -> Comparison:
        return compare(*arguments, **how)


_signature = inspect.signature(compare)
_self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
_all = [_self, *_signature.parameters.values()]
# For `help`, and for whoever asks a notebook what it can be given.
_Callable.__call__.__doc__ = compare.__doc__
_Callable.__call__.__signature__ = _signature.replace(parameters=_all)  # type: ignore[attr-defined]
sys.modules[__name__].__class__ = _Callable
