"""The versions of a model in a repository, as `ModelDownloader` shows them.

Promises: the version that suits most people comes first and says why; each says its size, whether
it fits, what comes along with it, and whether it is here already. Leaves to others: the facts
(`core.download`), drawing (static/).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from gguf_widgets.core.download.found import Repo
from gguf_widgets.core.download.names import HubName
from gguf_widgets.core.download.repo_files import DEFAULT_QUANT, RepoModel, by_default, choose
from gguf_widgets.core.errors import DownloadError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.widgets._downloader_words import Message, fit_view, quant_words

__all__ = ["recommended", "versions_view"]

_CONDITIONS = (
    "You have to accept the conditions on its page before you can download from it. Whether a "
    "version fits is judged by its size alone."
)


def versions_view(repo: Repo, wanted: HubName | None, notes: Sequence[str]) -> Message:
    """Return what a repository holds, as the page shows it.

    Parameters
    ----------
    repo : Repo
        With its models judged.
    wanted : HubName or None
        What the person asked for, if that was one version.
    notes : sequence of str
        What was said while it was looked at.
    """
    first, why, missing = _first_of(repo, wanted)
    others = [model for model in repo.models if model is not first]
    said = list(notes)
    if repo.gated and all(m.fit is not None and m.fit.judged_by == "size" for m in repo.models):
        # Its headers could not be read either; the core says why, for the command line.
        said = [_CONDITIONS]
    if missing:
        said.insert(0, missing)
    said += [
        f'"{path}" is left out: its name could lead out of the models folder.'
        for path in repo.left_out
    ]
    if not repo.models:
        said.append("It holds no GGUF model.")
    return {
        "license": repo.license,
        "notes": said,
        "models": [
            _version(repo, model, why if model is first else "", is_first=model is first)
            | {"label": _label(repo, model)}
            for model in ([first] if first else []) + others
        ],
    }


def recommended(models: Sequence[RepoModel]) -> tuple[RepoModel | None, str]:
    """Return the version to put first, and why; None if none of them suits.

    It is the one that a name without a version means, unless that is too large here: then the
    largest that fits. (A name means the same on each machine; a recommendation need not.)
    """
    usable = [model for model in models if model.complete]
    if not usable:
        return None, ""
    usual = by_default(usable)[0]
    if len(usual) > 1:
        return None, ""  # different models, between which only the person can choose
    if not _is_too_large(usual[0]):
        is_default = usual[0].quantization.removeprefix("UD-") == DEFAULT_QUANT
        return usual[0], "recommended" if len(usable) > 1 and is_default else "nearest to the usual"
    for verdict in ("yes", "with_settings"):
        fitting = [m for m in usable if m.fit is not None and m.fit.verdict == verdict]
        if fitting:
            return max(fitting, key=lambda model: model.size_bytes), "the largest that fits"
    return None, ""


def _first_of(repo: Repo, wanted: HubName | None) -> tuple[RepoModel | None, str, str]:
    """Return the version to put first, why, and what is to be said if it is not what was wanted."""
    if wanted is not None:
        try:
            return choose(repo.models, wanted)[0], "you asked for this", ""
        except DownloadError as error:
            first, why = recommended(repo.models)
            return first, why, error.message
    first, why = recommended(repo.models)
    return first, "" if len(repo.models) == 1 else why, ""


def _label(repo: Repo, model: RepoModel) -> str:
    """Return what tells a version from the others: its quantisation, else its file's name."""
    alike = [one for one in repo.models if one.quantization == model.quantization]
    if model.quantization and len(alike) == 1:
        return model.quantization
    return plain_text(PurePosixPath(model.path).name, 200)


def _version(repo: Repo, model: RepoModel, why: str, *, is_first: bool) -> Message:
    name = f"hf:{repo.name}/{model.path}"
    file = PurePosixPath(model.path).name
    along = []
    if len(model.files) > 1:
        along.append(f"{len(model.files)} files that belong together")
    if model.companion is not None:
        along.append(f"its companion for images ({format_bytes(model.companion.size_bytes)})")
    return {
        "name": name,
        "file": plain_text(file, 200),
        "path": model.path,
        "quant": model.quantization,
        "words": quant_words(model.quantization),
        "size": format_bytes(model.total_bytes),
        "along": f"With {' and '.join(along)}" if along else "",
        "fit": fit_view(model.fit),
        "complete": model.complete,
        "why": why,
        "first": is_first,
        "here": _here(name, model),
    }


def _here(name: str, model: RepoModel) -> str:
    """Say whether a version is "here", in "other" bytes, or "" if it is not."""
    from gguf_widgets.core import download

    path = download.find(name)
    if path is None:
        return ""
    return "here" if _size(path) == model.files[0].size_bytes else "other"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone in this moment
        return -1


def _is_too_large(model: RepoModel) -> bool:
    return model.fit is not None and model.fit.verdict == "no"
