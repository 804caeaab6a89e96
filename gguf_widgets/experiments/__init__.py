"""Experiments that can be repeated: what was asked is recorded, and asked again it is compared.

``gguf_widgets.experiments`` can be called: ``gw.experiments()`` is `experiment.experiments`, the
list of those in the store.

Promises: `Experiment`, `load_experiment` and `experiments` are what a person needs. Leaves to
others: each file is about one thing. `experiment` is what a person holds, `recorder` hears what
happens (``run_items``, ``model_record``: what is noted of it), `values` and `document` are the
record and its file, `words` what it says of itself. `replay` asks it all again: ``replay_models``
loads (`finding` finds), ``replay_items`` asks, ``verdicts`` and ``changes`` compare, ``report`` and
``replay_rows`` tell.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any

from gguf_widgets.experiments.experiment import Experiment, experiments, load_experiment
from gguf_widgets.experiments.replay import Replay, ReplayStatus

__all__ = ["Experiment", "Replay", "ReplayStatus", "experiments", "load_experiment"]


class _Callable(ModuleType):
    """A module that can be called, because the package and the function have one name.

    See `gguf_widgets.compare`, which is another.
    """

    def __call__(self, *arguments: Any, **how: Any) -> list[Experiment]:
        return experiments(*arguments, **how)


_signature = inspect.signature(experiments)
_self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
_all = [_self, *_signature.parameters.values()]
# For `help`, and for whoever asks a notebook what it can be given.
_Callable.__call__.__doc__ = experiments.__doc__
_Callable.__call__.__signature__ = _signature.replace(parameters=_all)  # type: ignore[attr-defined]
sys.modules[__name__].__class__ = _Callable
