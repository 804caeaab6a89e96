"""All machines of a cluster that a run has, as they come and go.

Promises: `places.Places`; a Dask worker that joins is asked who it is and, if nobody speaks for its
machine yet, has the model made ready; one that is lost is let go of, and tried again if it is still
there; while none is ready the run waits, within limits, and then says why for each machine. When
this returns from `close`, the machines have let go of the model, or will by themselves. Leaves to
others: one machine (`machine`), what to do about lost rows (`runner`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

import gguf_widgets
from gguf_widgets.batch.cluster import INSTALL_LINE, Cluster
from gguf_widgets.batch.cluster.dask_client import DaskClient, NoAnswerError, Sent
from gguf_widgets.batch.cluster.machine import Machine
from gguf_widgets.batch.cluster.messages import PROTOCOL, Identity, Job, decode
from gguf_widgets.batch.cluster.model_file import described
from gguf_widgets.batch.places import Place
from gguf_widgets.batch.spec import ModelRef
from gguf_widgets.core.errors import BatchError, ProtocolError
from gguf_widgets.core.format import format_duration, plain_text
from gguf_widgets.core.settings import LoadSettings

__all__ = ["Machines"]

_log = logging.getLogger(__name__)

LEASE_S: Final = 60.0  # a machine that hears nothing of the run for so long gives the model up
_LOOK_S: Final = 0.5
_CLOSE_S: Final = 10.0
_AGAIN_S: Final = (1.0, 60.0)  # before a lost machine is tried again: doubled each time
_LOST_SHOWN_S: Final = 60.0
# What suits a machine and changes no answer: each one chooses for itself.
_OWN_CHOICE: Final = ("n_gpu_layers", "n_threads", "use_mmap", "use_mlock")


class Machines:
    """The machines of a cluster, for one model of a run.

    Parameters
    ----------
    cluster : Cluster
    run_id : str
    reference : ModelRef
        The model, as the run knows it; its file is here.
    backend : str or None
        What runs it.
    on_change : callable
        Called, in any thread, when there are others than before; it must return at once.
    is_stopped : callable
        Whether nobody waits any more: the file is not read to its end then.

    Attributes
    ----------
    num_at_once : None
        Each machine has its own number.

    Raises
    ------
    FileChangeError
        The model's file cannot be read here, or `is_stopped` answered True.
    """

    num_at_once: int | None = None

    def __init__(
        self,
        cluster: Cluster,
        run_id: str,
        reference: ModelRef,
        *,
        backend: str | None = None,
        on_change: Callable[[], object],
        is_stopped: Callable[[], bool],
    ) -> None:
        self._cluster, self._on_change = cluster, on_change
        self._dask = DaskClient(cluster.client, run_id)
        self._job = _job(cluster, run_id, reference, backend, is_stopped)
        self._identities: dict[str, Identity] = {}  # by address
        self._asked: dict[str, tuple[Sent, float]] = {}  # who they are, since when; by address
        self._machines: dict[str, Machine] = {}  # by `Identity.machine`
        self._refused: dict[str, str] = {}  # by machine or address: a sentence
        self._lost: dict[str, tuple[str, float, int]] = {}  # by machine: a sentence, when, times
        self._there: set[str] = set()
        self._heard = self._had_one = time.monotonic()
        self._has_looked = False
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name=f"gguf-widgets-cluster-watch-{run_id[:8]}", daemon=True
        )
        self._thread.start()

    # -- the runner's thread ----------------------------------------------------------------------

    def current(self) -> Sequence[Place]:
        """Return the machines that are ready; see `places.Places`.

        Raises
        ------
        BatchError
            ``details["problem"]`` is "cluster_gone" or "no_machine".
        """
        now = time.monotonic()
        state = self._dask.state
        silent = now - self._heard
        if state == "closed" or silent > self._cluster.wait_s:
            why = (
                "the connection to its scheduler was closed"
                if state == "closed"
                else f"its scheduler has not answered for {format_duration(silent)}"
            )
            raise BatchError(
                f"The cluster has gone: {why}. What is done is kept. Connect again with "
                "Client(address), and go on with resume(run_id, executor=client).",
                problem="cluster_gone",
            )
        ready = [one for one in list(self._machines.values()) if one.state == "ready"]
        coming = [one for one in list(self._machines.values()) if one.state == "loading"]
        wait_s = self._cluster.wait_s
        answering = any(now - when < wait_s for _, when in list(self._asked.values()))
        if ready or coming or not self._has_looked:
            self._had_one = now
        if ready or coming or answering or not self._has_looked:
            return ready
        if self._refused and not self._asked and not self._may_come():
            reasons = list(dict.fromkeys(list(self._refused.values())))
            raise BatchError(
                f"No machine of the cluster can take part in this run. {' '.join(reasons[:5])}",
                problem="no_machine",
                reasons=reasons[:50],
            )
        if now - self._had_one > wait_s:
            seen = [sentence for sentence, *_ in list(self._lost.values())]
            seen += list(self._refused.values())
            if self._asked:
                num = len(self._asked)
                seen.append(f"Dask workers that are there and do not answer: {num}.")
            raise BatchError(
                f"The cluster has had no machine for {format_duration(wait_s)}. "
                f"{''.join(f'{one} ' for one in seen[:5])}What is done is kept; resume(run_id, "
                "executor=client) goes on when there is one. Cluster(client, wait_s=...) waits "
                "longer.",
                problem="no_machine",
            )
        return ready

    def _may_come(self) -> bool:
        """Say whether a machine may come: one that was lost, or one that has only just joined."""
        if self._machines or any(one not in self._refused for one in list(self._lost)):
            return True
        there = [one for one in self._there if one not in self._refused]
        known = [self._identities.get(address) for address in there]
        return any(one is None or one.machine not in self._refused for one in known)

    @property
    def note(self) -> str:
        """How many machines there are, and what is wrong with others; "" if all are at it."""
        if self._dask.state != "running":
            return "The cluster's scheduler does not answer just now."
        machines = list(self._machines.values())
        num_ready = sum(one.state == "ready" for one in machines)
        loading = [one for one in machines if one.state == "loading"]
        parts = []
        if loading:
            first = loading[0]
            how = f": {first.phrase} ({first.fraction:.0%})" if first.phrase else ""
            parts.append(
                f"{num_ready} of {num_ready + len(loading)} machines are ready; "
                f"{first.label} is getting ready{how}."
            )
        elif not num_ready:
            parts.append("Waiting for a machine of the cluster.")
        now = time.monotonic()
        parts += [s for s, when, _ in list(self._lost.values()) if now - when < _LOST_SHOWN_S][-2:]
        refused = list(dict.fromkeys(list(self._refused.values())))
        parts += refused[:2]
        if len(refused) > 2:
            parts.append(f"{len(refused) - 2} more machines take no part.")
        return " ".join(parts)

    def close(self) -> None:
        """Let go of all machines; it takes ten seconds at most."""
        end = time.monotonic() + _CLOSE_S
        self._ended.set()
        if self._dask.state != "running":
            end = time.monotonic()  # nobody hears a goodbye; the threads end by themselves
        self._thread.join(max(0.0, end - time.monotonic()))
        machines = list(self._machines.values())
        for machine in machines:
            machine.close()
        for machine in machines:
            machine.join(max(0.0, end - time.monotonic()))
        for sent, _ in list(self._asked.values()):  # the watch may be at it still
            sent.drop()

    # -- the watch's thread -----------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                if self._dask.state == "running":
                    self._look(self._dask.machines())
                    self._heard = time.monotonic()
                    self._has_looked = True
            except NoAnswerError as error:
                _log.info("A cluster's scheduler did not answer: %s", error)
            self._ended.wait(_LOOK_S)

    def _look(self, addresses: Sequence[str]) -> None:
        """Take note of which machines there are now."""
        self._there = there = set(addresses)
        for address in list(self._asked):
            if address not in there:
                self._asked.pop(address)[0].drop()
            elif self._asked[address][0].is_done:
                self._meet(address, self._asked.pop(address)[0])
        for address in list(self._identities):
            if address not in there:
                del self._identities[address]
        for address in list(self._refused):
            if ":" in address and address not in there:  # a worker's; a machine's own has no colon
                del self._refused[address]
        for machine in list(self._machines.values()):
            if machine.state in ("loading", "ready") and machine.address not in there:
                machine.lose("It has left the cluster.")
            elif machine.state in ("lost", "refused"):
                self._let_go(machine)
        known = {*self._identities, *self._asked, *self._refused}
        for address in addresses:
            if address not in known:
                self._asked[address] = (self._dask.version(address), time.monotonic())
        for address in addresses:
            self._take_in(address)

    def _meet(self, address: str, sent: Sent) -> None:
        """Take a worker's answer to which version it has, and then to who it is."""
        mine = gguf_widgets.__version__
        try:
            found = sent.result()
            if isinstance(found, str):
                identity = None
                version, protocol = found, PROTOCOL
            else:
                identity = decode(found, Identity)
                version, protocol = identity.version, identity.protocol
        except (NoAnswerError, ProtocolError) as error:
            self._refuse(
                address,
                f"{address} takes no part: {error} It needs gguf-widgets {mine}, and so does the "
                f"scheduler's machine: {INSTALL_LINE}",
            )
            return
        if (version, protocol) != (mine, PROTOCOL):
            self._refuse(
                address,
                f"{address} takes no part: it has gguf-widgets {version[:40]}, and here is {mine}. "
                "Install the same version on all machines.",
            )
        elif identity is None:
            self._asked[address] = (self._dask.identify(address), time.monotonic())
        else:
            self._identities[address] = identity

    def _take_in(self, address: str) -> None:
        """Have a machine make the model ready, unless somebody speaks for it already."""
        identity = self._identities.get(address)
        if identity is None or identity.machine in self._machines:
            return
        if identity.machine in self._refused or self._ended.is_set():
            return
        _, when, times = self._lost.get(identity.machine, ("", 0.0, 0))
        if times and time.monotonic() - when < min(_AGAIN_S[0] * 2 ** (times - 1), _AGAIN_S[1]):
            return
        host = address.rpartition("://")[2].rpartition(":")[0]
        path = self._cluster.path_for(address, identity.name, identity.host, host)
        model = msgspec.structs.replace(self._job.model, given=path)
        job = msgspec.structs.replace(self._job, model=model)
        _log.info("%s at %s is asked to take part", identity.host, address)
        self._machines[identity.machine] = Machine(
            self._dask, address, identity, job, on_change=self._on_change
        )

    def _let_go(self, machine: Machine) -> None:
        del self._machines[machine.identity.machine]
        if machine.state == "refused":
            self._refuse(
                machine.identity.machine, f"{machine.label} takes no part: {machine.reason}"
            )
        elif self._dask.state == "running":
            times = self._lost.get(machine.identity.machine, ("", 0.0, 0))[2] + 1
            sentence = f"{machine.label} was lost: {machine.reason} Its rows are done elsewhere."
            self._lost[machine.identity.machine] = (sentence, time.monotonic(), times)

    def _refuse(self, who: str, sentence: str) -> None:
        self._refused[who] = plain_text(sentence, 600)
        _log.warning("%s", self._refused[who])
        self._on_change()


def _job(
    cluster: Cluster,
    run_id: str,
    reference: ModelRef,
    backend: str | None,
    is_stopped: Callable[[], bool],
) -> Job:
    settings: dict[str, Any] = {**reference.settings}
    adapters = LoadSettings.from_keywords(lora=settings.pop("lora", ())).lora
    for name in _OWN_CHOICE:
        settings.pop(name, None)
    settings.update(cluster.settings)
    template = settings.pop("chat_template", reference.chat_template)
    companion = settings.get("mmproj") or None
    if companion is not None:
        del settings["mmproj"]
    return Job(
        run_id=run_id,
        name=reference.name,
        model=described(Path(reference.path), fetch=cluster.fetch, cancel=is_stopped),
        adapters=tuple(
            (described(Path(path), cancel=is_stopped), scale) for path, scale in adapters
        ),
        companion=None if companion is None else described(Path(companion), cancel=is_stopped),
        settings=settings,
        chat_template=template,
        backend=backend,
        lease_s=LEASE_S,
    )
