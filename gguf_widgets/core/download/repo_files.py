"""The models among the files of a repository, and which of them is meant.

Promises: the parts of a split model are one model; a companion for images or sound (mmproj) goes
with the model it belongs to; a quantisation is found whatever its capital letters, and if it is not
there the ones that are there are named. Leaves to others: getting the list (`hub`), whether the
names are true (the header says; `from_hub`).

Which one is taken when none is named
-------------------------------------
Q4_K_M, the usual middle between size and quality, which llama.cpp takes by default, too. Where
there is none, the one whose bits for each weight are nearest to Q4_K_M's 4.8; of two as near the
larger. It is never chosen by what fits: the same name must mean the same model on each machine.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from gguf_widgets.core.download.names import HubName
from gguf_widgets.core.download.record import Checksum
from gguf_widgets.core.errors import DownloadError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.gguf_split import split_name

__all__ = [
    "DEFAULT_QUANT",
    "RepoFile",
    "RepoModel",
    "by_default",
    "choose",
    "family_of",
    "models_among",
    "quant_in",
]

DEFAULT_QUANT: Final = "Q4_K_M"

# As llama.cpp's converter and quantiser name them, and the makers of repositories after them.
_QUANT: Final = re.compile(
    r"(?:^|[-._ ])"
    r"((?:UD-)?(?:I?Q[1-8]_[A-Z0-9]{1,3}(?:_[A-Z0-9]{1,3})*|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4"
    r"|BF16|FP?16|FP?32))"
    r"(?=$|[-._ ])",
    re.IGNORECASE,
)
# Bits for each weight of a whole model; of what is not listed the number in its name is taken.
_BITS: Final = {
    "F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q8_0": 8.5, "Q6_K": 6.6, "Q5_K_M": 5.7, "Q5_K_S": 5.5,
    "Q5_1": 6.0, "Q5_0": 5.5, "Q4_K_L": 5.0, "Q4_K_M": 4.85, "Q4_K_XL": 4.9, "Q4_K_S": 4.6,
    "Q4_1": 5.0, "Q4_0": 4.6, "IQ4_NL": 4.6, "IQ4_XS": 4.3, "MXFP4": 4.4, "MXFP4_MOE": 4.4,
    "NVFP4": 4.6, "Q3_K_L": 4.2, "Q3_K_M": 3.9, "Q3_K_S": 3.5, "IQ3_M": 3.7, "IQ3_S": 3.5,
    "IQ3_XS": 3.3, "IQ3_XXS": 3.1, "Q2_K": 3.0, "Q2_K_S": 2.8, "IQ2_M": 2.7, "IQ2_S": 2.5,
    "IQ2_XS": 2.4, "IQ2_XXS": 2.1, "IQ1_M": 1.9, "IQ1_S": 1.7, "TQ2_0": 2.1, "TQ1_0": 1.7,
}  # fmt: skip
# What is GGUF and no model by itself, going by the words in its name.
_OTHER_WORDS: Final = ("imatrix", "vocab", "lora", "adapter", "control")
_PROJECTORS: Final = ("F16", "BF16", "Q8_0", "F32")  # the first that is there is taken


class RepoFile(NamedTuple):
    """One file of a repository.

    Attributes
    ----------
    path : str
        In the repository, with "/" between folders.
    size_bytes : int
    checksum : Checksum or None
        What the hub says that its bytes come to.
    """

    path: str
    size_bytes: int
    checksum: Checksum | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class RepoModel:
    """One model of a repository: all the files that it takes.

    Attributes
    ----------
    files : tuple of RepoFile
        The parts, in order; one for a model that is not split.
    quantization : str
        Going by the name, in capital letters ("Q4_K_M"); "" if the name does not say. The header
        is asked when the file is there.
    companion : RepoFile or None
        The mmproj file that goes with it: what makes it see or hear.
    complete : bool
        False if the repository lacks a part.
    fit : Any
        Whether it fits this machine, a `remote.Fit`; None until it was asked for.
    """

    files: tuple[RepoFile, ...]
    quantization: str
    companion: RepoFile | None = None
    complete: bool = True
    fit: Any = None

    @property
    def path(self) -> str:
        """The path of its file; of a split model of its first part."""
        return self.files[0].path

    @property
    def size_bytes(self) -> int:
        """The size of the model's own files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def total_bytes(self) -> int:
        """What is fetched for it: with its companion."""
        return self.size_bytes + (self.companion.size_bytes if self.companion else 0)

    @property
    def all_files(self) -> tuple[RepoFile, ...]:
        """All files that are fetched for it."""
        return (*self.files, *((self.companion,) if self.companion else ()))


def quant_in(path: str) -> str:
    """Return the quantisation that a file's name states, else its folder's; "" if neither does.

    Examples
    --------
    >>> quant_in("Tiny-1B-q4_k_m.gguf"), quant_in("UD-IQ2_M/x-00001-of-00002.gguf")
    ('Q4_K_M', 'UD-IQ2_M')
    """
    pure = PurePosixPath(path)
    split = split_name(Path(pure.name))
    stem = split.stem if split else re.sub(r"\.gguf$", "", pure.name, flags=re.IGNORECASE)
    for text in (stem, *(folder.name for folder in pure.parents)):
        found = _QUANT.findall(text)
        if found:
            return re.sub(r"^FP", "F", str(found[-1]).upper())
    return ""


def family_of(model: RepoModel) -> str:
    """Return what the versions of one and the same model have in common in their names."""
    name = PurePosixPath(model.path).name
    split = split_name(Path(name))
    stem = split.stem if split else re.sub(r"\.gguf$", "", name, flags=re.IGNORECASE)
    return _QUANT.sub("", stem.lower()).strip("-._ ")


def models_among(files: Iterable[RepoFile]) -> list[RepoModel]:
    """Return the models among a repository's files: by size, the smallest first.

    Files that are GGUF and no models by themselves, going by their names, are left out.
    """
    groups: dict[tuple[str, str, int], list[RepoFile]] = {}
    projectors: list[RepoFile] = []
    for file in files:
        pure = PurePosixPath(file.path)
        name = pure.name.lower()
        if not name.endswith(".gguf"):
            continue
        if "mmproj" in name:
            projectors.append(file)
            continue
        if any(re.search(rf"(?:^|[-._ ]){word}", name) for word in _OTHER_WORDS):
            continue
        split = split_name(Path(pure.name))
        many = split is not None and split.num_parts > 1
        key = (str(pure.parent), split.stem if split and many else pure.name, 0)
        if split is not None and many:
            key = (str(pure.parent), split.stem, split.num_parts)
        groups.setdefault(key, []).append(file)
    found = []
    for (_, _, num_parts), members in groups.items():
        members.sort(key=lambda file: file.path)
        found.append(
            RepoModel(
                files=tuple(members),
                quantization=quant_in(members[0].path),
                companion=_companion(members[0], projectors),
                complete=num_parts in (0, len(members)),
            )
        )
    return sorted(found, key=lambda model: (model.size_bytes, model.path))


def choose(models: Sequence[RepoModel], name: HubName) -> tuple[RepoModel, str]:
    """Return the model that a name means, and a sentence on why it is this one ("" if it is plain).

    Raises
    ------
    DownloadError
        ``problem`` is "no_models", "not_found", "no_such_quantization", "ambiguous" or
        "incomplete"; the second to the fourth have ``available``.
    """
    if not models:
        raise DownloadError(
            f"The repository {name.repo} holds no GGUF model. Look for one whose name ends in "
            f"-GGUF: gguf-widgets get --search {name.repo.partition('/')[2]}",
            problem="no_models",
            repo=name.repo,
        )
    why = ""
    if name.file is not None:
        fitting = [m for m in models if any(f.path == name.file for f in m.files)]
        if not fitting:
            raise _none(models, name, f'no model file "{plain_text(name.file, 100)}"', "not_found")
    elif name.quant is not None:
        fitting = _with_quant(models, name.quant)
        if not fitting:
            raise _none(
                models, name, f"no version {plain_text(name.quant, 40)}", "no_such_quantization"
            )
    else:
        fitting, why = by_default(models)
    if len(fitting) > 1:
        raise _none(models, name, "more than one model that this could mean", "ambiguous", fitting)
    if not fitting[0].complete:
        raise DownloadError(
            f'The repository {name.repo} lacks a part of "{plain_text(fitting[0].path, 100)}", so '
            "it cannot be used. Choose another version.",
            problem="incomplete",
            repo=name.repo,
        )
    return fitting[0], why


def _with_quant(models: Sequence[RepoModel], quant: str) -> list[RepoModel]:
    wanted = re.sub(r"^FP", "F", quant.upper())
    exact = [model for model in models if model.quantization == wanted]
    # "UD-" marks a maker's own mixture; asking for the plain name is fine where it is alone.
    return exact or [m for m in models if m.quantization.removeprefix("UD-") == wanted]


def by_default(models: Sequence[RepoModel]) -> tuple[list[RepoModel], str]:
    """Return the version that is taken when none is named (several if they are alike), and why."""
    usable = [model for model in models if model.complete] or list(models)
    if len(usable) == 1:
        return usable, ""
    exact = _with_quant(usable, DEFAULT_QUANT)
    if exact:
        return exact, (
            f"{DEFAULT_QUANT} was chosen of {len(usable)} versions, as the usual middle between "
            "size and quality."
        )

    def distance(model: RepoModel) -> tuple[float, float]:
        bits = _bits(model.quantization)
        return (round(abs(bits - _BITS[DEFAULT_QUANT]), 3), -bits)

    nearest = min(map(distance, usable))
    chosen = [model for model in usable if distance(model) == nearest]
    label = chosen[0].quantization or PurePosixPath(chosen[0].path).name
    return chosen, (
        f"{label} was chosen of {len(usable)} versions, as the nearest to {DEFAULT_QUANT}, which "
        "this repository does not have."
    )


def _bits(quant: str) -> float:
    plain = quant.removeprefix("UD-")
    if plain in _BITS:
        return _BITS[plain]
    digit = re.search(r"[1-8]", plain)
    return float(digit[0]) + 0.5 if digit else 64.0  # one that says nothing comes last


def _companion(model: RepoFile, projectors: Sequence[RepoFile]) -> RepoFile | None:
    """Return the mmproj file for a model: of its own folder, of its own name, in 16 bits."""
    if not projectors:
        return None
    folder = PurePosixPath(model.path).parent
    above = {folder, *folder.parents}
    near = [p for p in projectors if PurePosixPath(p.path).parent in above] or list(projectors)
    stem = PurePosixPath(model.path).name.lower()
    named = [p for p in near if (core := _core_of(p.path)) and stem.startswith(core)]
    pool = named or [p for p in near if not _core_of(p.path)] or near

    def rank(file: RepoFile) -> tuple[int, int, str]:
        quant = quant_in(PurePosixPath(file.path).name)
        place = _PROJECTORS.index(quant) if quant in _PROJECTORS else len(_PROJECTORS)
        return (-len(PurePosixPath(file.path).parent.parts), place, file.path)

    return min(pool, key=rank)


def _core_of(path: str) -> str:
    """Return the model's name inside a projector's name: what is left without the usual words."""
    name = re.sub(r"\.gguf$", "", PurePosixPath(path).name.lower())
    name = re.sub(r"(?:^|[-._ ])(?:mmproj|model)(?=$|[-._ ])", "", name)
    return _QUANT.sub("", name).strip("-._ ")


def _none(
    models: Sequence[RepoModel],
    name: HubName,
    what: str,
    problem: str,
    shown: Sequence[RepoModel] = (),
) -> DownloadError:
    by_name = problem != "no_such_quantization" or any(not m.quantization for m in models)
    listed = shown or models
    labels = [m.path if by_name or not m.quantization else m.quantization for m in listed]
    words = [
        f"{plain_text(label, 80)} ({format_bytes(model.size_bytes)})"
        for label, model in zip(labels[:12], listed, strict=False)
    ]
    more = f" and {len(labels) - 12} more" if len(labels) > 12 else ""
    how = "" if not by_name else f' Name a file: "hf:{name.repo}/{plain_text(labels[0], 80)}".'
    return DownloadError(
        f"The repository {name.repo} has {what}. There {'is' if len(labels) == 1 else 'are'} "
        f"{', '.join(words)}{more}.{how}",
        problem=problem,
        repo=name.repo,
        available=labels,
    )
