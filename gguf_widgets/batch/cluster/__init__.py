"""A batch run on many machines, by Dask: ``executor=dask.distributed.Client(...)``.

Promises: the run's process asks, and alone writes the store; each machine of the cluster answers
with a model process of its own and the same model file, checked by its SHA-256; a reply comes back
when it ends, and what a lost machine was at is asked elsewhere. Whatever a run can do it can do
here: pause, resume, stop, an interrupt, ``retry_failed``, progress. Leaves to others: the cluster
itself (Dask), the rules of a run (`runner`, `line`).

Each file is about one thing. Here: `Cluster`, what a person says of it. ``messages`` is what goes
over the wire; ``station`` is a machine's own part, ``model_file`` how it finds the model;
``machine`` is the run's end of one machine, ``machines`` all of them; ``dask_client`` is the only
one that talks with Dask.

**What a machine needs.** gguf-widgets in the same version as here, with the extras ``llama`` and
``distributed``, in the environment of its Dask worker; and the model file. (The scheduler needs
gguf-widgets and Dask, too, and no model.) The file is looked for in this order, and what is found
counts only if it has the same SHA-256 as the file here:

1. the path that `Cluster(paths=...)` gives for the machine (then nowhere else);
2. the path that the file has here, as in a shared folder;
3. the machine's own models: its models folder and the folders of ``GGUF_WIDGETS_MODELS``;
4. with `Cluster(fetch="hf:owner/repo:Q4_K_M")`, what is downloaded from there.

A machine that has no such file, or another one, takes no part, and the run's note says so. A run
that no machine can take part in ends with an error that says why for each.

A Dask worker needs a thread for this now and then. If others' tasks keep all of them busy for most
of a minute, the machine is taken for lost and tried again later: start workers on which other work
runs, too, with a thread more.

**What is a machine.** All Dask workers with the same host and the same data folder share one model
process, and one of them speaks for it; if it is lost, the next one takes its place. For a model
process for each (one for each graphics card, say) start each with a ``GGUF_WIDGETS_HOME`` of its
own.

**Whom to trust.** Dask's scheduler, workers and clients send each other pickles: whoever can
connect to one of them can run code in all of them, this process included. Keep them in a network of
your own, or use Dask's TLS (``distributed.Security``). Beyond that, what a machine answers is
checked here as what comes from a stranger: its form, its size, and that it was asked.

Examples
--------
>>> from dask.distributed import Client
>>> client = Client("tcp://scheduler:8786")  # doctest: +SKIP
>>> model.map(df, "Translate: {text}", executor=client)  # doctest: +SKIP
>>> cluster = Cluster(client, paths={"gpu1": "/data/model.gguf"})  # doctest: +SKIP
>>> gw.resume(run_id, executor=cluster)  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, Final, Self

from gguf_widgets.core.errors import InvalidValueError, MissingDependencyError
from gguf_widgets.core.types import LoadSettings

__all__ = ["INSTALL_LINE", "Cluster", "distributed"]

INSTALL_LINE: Final = 'pip install "gguf-widgets[llama,distributed]"'
_MOST_WAIT_S: Final = 24 * 3600.0
_THE_MODELS: Final = ("lora", "mmproj", "chat_template")  # they change what it answers


def distributed() -> Any:
    """Return Dask's package of that name, which is imported when it is first needed.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise MissingDependencyError(
            "A run on many machines needs the package distributed, which is not installed. Install "
            f"it here and on each machine: {INSTALL_LINE}",
            install=INSTALL_LINE,
            package="distributed",
        ) from error


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A Dask cluster and what its machines should know.

    Parameters
    ----------
    client : dask.distributed.Client
        Connected, and not made with ``asynchronous=True``.
    paths : str or dict of str to str, optional
        The model file's path on the machines: one for all, or by machine. A machine is named by its
        Dask worker's address or name, or by its host name; "*" is every other one.
    fetch : str, optional
        Where a machine that does not have the model downloads it from: ``hf:owner/repo:Q4_K_M`` or
        an https address. It is kept in that machine's models folder.
    settings : dict, optional
        `LoadSettings` for the machines. Default: those that the model has here, but for what suits
        a machine (``n_gpu_layers``, ``n_threads``, ``use_mmap``, ``use_mlock``), which each one
        chooses for itself.
    wait_s : float, default 120
        How long the run waits for a machine while there is none, or for the scheduler while it does
        not answer, before it ends with an error; resuming goes on.

    Raises
    ------
    MissingDependencyError
        The package distributed is not installed.
    InvalidValueError
        Something of this cannot be.
    """

    client: Any
    paths: str | Mapping[str, str] | None = None
    fetch: str | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    wait_s: float = 120.0

    def __post_init__(self) -> None:
        _check_client(self.client)
        named = {"*": self.paths} if isinstance(self.paths, str) else self.paths or {}
        if not isinstance(named, Mapping) or not all(
            isinstance(text, str) and text for pair in named.items() for text in pair
        ):
            raise InvalidValueError(
                "paths is the model's path on all machines, or a dict from a machine's name to a "
                f"path; this is {self.paths!r:.200}."
            )
        if self.fetch is not None:
            from gguf_widgets.core import download  # late: most runs fetch nothing

            download.parse_name(self.fetch)
        LoadSettings.from_keywords(**self.settings)
        for name in _THE_MODELS:
            if name in self.settings:
                raise InvalidValueError(
                    f"{name} cannot be set for the machines alone: load the model with it here.",
                    name=name,
                )
        if not 0 < self.wait_s <= _MOST_WAIT_S:
            raise InvalidValueError(
                f"wait_s is {self.wait_s}; it must be above 0 and at most {_MOST_WAIT_S:,.0f} "
                "seconds.",
                value=self.wait_s,
            )

    @classmethod
    def of(cls, executor: Any, *, own_process: bool = False) -> Self | None:
        """Return what a person gives as ``executor=`` as a cluster; None for None.

        Raises
        ------
        MissingDependencyError, InvalidValueError
            It cannot be used.
        """
        if executor is None:
            return None
        if own_process:
            raise InvalidValueError(
                "A run can have a process of its own or a cluster, not both: the connection to the "
                "cluster is this process's. Leave out own_process, or executor."
            )
        return executor if isinstance(executor, cls) else cls(executor)

    def path_for(self, *names: str) -> str | None:
        """Return the path that a person gave for a machine with these names; None if none."""
        if isinstance(self.paths, str):
            return self.paths
        given = self.paths or {}
        return next((given[name] for name in (*names, "*") if name in given), None)


def _check_client(client: Any) -> None:
    if not isinstance(client, distributed().Client):
        raise InvalidValueError(
            "executor is a dask.distributed.Client, or a Cluster made with one; this is a "
            f"{type(client).__name__}."
        )
    if client._asynchronous:  # noqa: SLF001 - `asynchronous` answers for the thread that asks
        raise InvalidValueError(
            "This client was made with asynchronous=True. Make one without: Client(address)."
        )
    if client.status != "running":
        raise InvalidValueError(
            f"This client is {client.status}, not connected. Make a new one: Client(address)."
        )
