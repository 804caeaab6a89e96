"""Which projector (mmproj) belongs to which model.

Promises: a projector is paired only with a model that it can work with; where several would do, the
best comes first and the others are named too. Leaves to others: the facts (`facts`).

The rule
--------
A program's own word counts most: an Ollama manifest, a description of Jan's, a start of KoboldCpp's
name both files. Else the two have to lie in the same folder (or the same repository of a hub), and

- the model's width (``embedding_length``) has to be the projector's ``projection_dim`` or, where a
  projector does not say that or says the encoder's own (the first ones for LLaVA do), a dimension
  of its last tensors; llama.cpp refuses any other (``mtmd.cpp``);
- a projector of a kind that works with one architecture only has to have met that;
- their names have to agree (the files', or what the headers call the model and its family), unless
  all models there that pass the first two tests are versions of one.

Of several projectors of one model the names decide, then the number format: F16 runs everywhere and
loses nothing that matters, so it comes before BF16, Q8_0, F32 and the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from gguf_widgets.core.gguf_projector import ONLY_WITH
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.library.facts import Facts
from gguf_widgets.core.library.items import FoundFile

__all__ = ["is_near", "pair"]

_FORMATS: Final = ("F16", "BF16", "Q8_0", "F32")
# What file names have beside the model's name.
_NO_NAME: Final = re.compile(
    r"(?i)(?<![a-z0-9])(mmproj|model|vision|audio|projector|clip|gguf|ggml|imatrix|imat|ud|i1"
    r"|fp16|fp32|f16|f32|bf16|mxfp\d+|nvfp\d+|[it]?q\d+(_(k|nl|[01]|xxs|xs|s|m))?(_(xs|s|m|l|xl))?)"
    r"(?![a-z0-9])"
)
_WORD: Final = re.compile(r"[a-z]+|\d+(?:\.\d+)*")


class _Candidate(NamedTuple):
    """A projector for a model, and how well they suit each other (smaller is better)."""

    rank: tuple[int, int, int, str]
    file: FoundFile


def pair(files: Iterable[tuple[FoundFile, Facts]]) -> dict[int, list[FoundFile]]:
    """Return the projectors of each model, the best first.

    Parameters
    ----------
    files : iterable of (FoundFile, Facts)

    Returns
    -------
    dict
        By `id` of the model's `FoundFile`; models without a projector are not in it.
    """
    files = list(files)
    models = [(file, facts) for file, facts in files if facts.info is not None]
    projectors = [(file, facts) for file, facts in files if facts.projector is not None]
    found: dict[int, list[_Candidate]] = {}
    for projector, about in projectors:
        own = {place.path for place in projector.places}
        homes = _homes(projector)
        near = [(f, facts) for f, facts in models if homes & _homes(f) and _suits(about, facts)]
        one_family = len({_family(f, facts) for f, facts in near}) == 1
        for model, facts in models:
            named = not own.isdisjoint(model.companions)
            beside = any(model is f for f, _ in near)
            agreement = _agreement(projector, about, model, facts)
            if named or (beside and (agreement > 0 or one_family)):
                rank = (0 if named else 1, -agreement, _format_rank(about), str(projector.path))
                found.setdefault(id(model), []).append(_Candidate(rank, projector))
    return {
        key: [candidate.file for candidate in sorted(some, key=lambda one: one.rank)]
        for key, some in found.items()
    }


def is_near(file: FoundFile, model: FoundFile) -> bool:
    """Say whether a file may have a say in which projector a model has."""
    own = {place.path for place in file.places}
    return not own.isdisjoint(model.companions) or bool(_homes(file) & _homes(model))


def _homes(file: FoundFile) -> set[str]:
    """Return the folders that a file lies in, and the repository that it is from."""
    homes = {str(place.path.parent) for place in file.places}
    if file.program == "huggingface" and file.hint:
        homes.add(f"repository {file.hint}")
    return homes


def _suits(projector: Facts, model: Facts) -> bool:
    about, info = projector.projector, model.info
    if about is None or info is None or "embeddings" in model.capabilities:
        return False
    for kind in about.kinds:
        if kind in ONLY_WITH and not info.architecture.startswith(ONLY_WITH[kind]):
            return False
    return info.n_embd == about.width or info.n_embd in about.sizes


def _family(file: FoundFile, facts: Facts) -> tuple[str, ...]:
    """Return what versions of one model have in common."""
    info = facts.info
    return (
        info.architecture if info else "",
        str(info.n_embd if info else 0),
        *_words(_stem(file)),
    )


def _agreement(projector: FoundFile, about: Facts, model: FoundFile, facts: Facts) -> int:
    """Return how well the names agree: 0 not at all, 3 the files are named alike."""
    mine, theirs = _words(_stem(projector)), _words(_stem(model))
    if mine and mine == theirs:
        return 3
    if mine and set(mine) <= set(theirs) and len(mine) >= 2:
        return 2
    called = {_words(name) for name in about.names} - {()}
    return 1 if called & {_words(name) for name in facts.names} else 0


def _stem(file: FoundFile) -> str:
    split = split_name(file.path)
    return split.stem if split else file.path.stem


def _words(name: str) -> tuple[str, ...]:
    """Return the words of a name that tell which model it is."""
    return tuple(_WORD.findall(_NO_NAME.sub(" ", name).lower()))


def _format_rank(facts: Facts) -> int:
    name = facts.quantization
    return _FORMATS.index(name) if name in _FORMATS else len(_FORMATS)
