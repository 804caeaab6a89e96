"""What there is to be fetched, and whether it would fit this machine.

Promises: looking costs some MB at most and writes nothing. Leaves to others: the hub (`hub`), the
judging (`remote`).
"""

from __future__ import annotations

import dataclasses
from typing import Final

from gguf_widgets.core.download import hub
from gguf_widgets.core.download.http import Patience
from gguf_widgets.core.download.names import repo_name
from gguf_widgets.core.download.progress import Job
from gguf_widgets.core.download.remote import (
    Fit,
    Machine,
    fit_by_size,
    fit_of,
    remote_header,
    scaled,
)
from gguf_widgets.core.download.repo_files import RepoModel, by_default, family_of
from gguf_widgets.core.errors import DownloadError, ModelFileError

__all__ = ["with_fit"]

# Some repositories hold many different models; of so many a header is read.
_MOST_HEADERS: Final = 4


def with_fit(name: str, *, revision: str | None, job: Job, patience: Patience) -> hub.Repo:
    """Return what a repository holds, each model judged for this machine.

    Raises
    ------
    InvalidValueError, DownloadError, MissingDependencyError
    """
    repo = hub.repo(repo_name(name), revision=revision, patience=patience, job=job)
    families: dict[str, list[RepoModel]] = {}
    for model in repo.models:
        if model.complete:
            families.setdefault(family_of(model), []).append(model)
    machine = Machine.now()
    fits: dict[str, Fit] = {}
    for number, members in enumerate(families.values()):
        if number < _MOST_HEADERS:
            fits |= _by_header(repo, members, machine, job, patience)
        fits |= {m.path: fit_by_size(m.total_bytes, machine) for m in members if m.path not in fits}
    models = tuple(dataclasses.replace(m, fit=fits.get(m.path)) for m in repo.models)
    return dataclasses.replace(repo, models=models)


def _by_header(
    repo: hub.Repo, members: list[RepoModel], machine: Machine, job: Job, patience: Patience
) -> dict[str, Fit]:
    """Judge the versions of one model by the header of that which is most likely wanted."""
    base = by_default(members)[0][0]
    parts = [(file.path, hub.wanted(repo, file)) for file in base.files]
    fits = {}
    try:
        with remote_header(parts, job, patience=patience) as header:
            if header is None:
                return {}
            fits[base.path] = fit_of(header, machine)
            for model in members:
                if model is not base:
                    other = scaled(header, model.size_bytes)
                    fits[model.path] = fit_of(other, machine, judged_by="scaled")
    except ModelFileError as error:
        job.note(f"{base.path}: {error.message}")
        return {}
    except DownloadError as error:
        if error.details.get("problem") == "cancelled":
            raise
        # The list itself is worth having, too: of a repository with conditions it is open to all.
        job.note(f"Whether it fits is judged by the sizes alone. {error.message}")
        return {}
    return fits
