"""What decides the speed on this machine, and whether something else uses it at the moment.

Promises: `this_machine` tells machines apart by what speed depends on (processor, usable cores,
memory, graphics cards, system), and two that are alike in this count as one; `this_engine` names
what computes; what cannot be found out is left out and nothing fails because of it. `Watch` says
how many cores others kept busy between two moments, its own process and the model's left out.
Leaves to others: what is concluded from it (`work`, `compare`).
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
import psutil

from gguf_widgets.core.devices import graphics_cards
from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.core.fit_machine import usable_cores
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.record.program import about_program

__all__ = ["BUSY_SHARE", "Busy", "Engine", "Machine", "Watch", "busy_now", "this_engine",
           "this_machine"]  # fmt: skip

BUSY_SHARE: Final = 0.1
"""Above this share of the cores, what others use makes a measurement worthless."""

_LOAD_SHARE: Final = 0.75
_SHORTEST_S: Final = 0.1  # the system counts in hundredths of a second

_log = logging.getLogger(__name__)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What speed depends on."""

    processor: str
    num_cores: int
    memory_gib: int
    gpus: list[str] = []
    system: str = ""

    @property
    def digest(self) -> str:
        """The same for the same machine, and for one that is alike in all of this."""
        plain = json.dumps(msgspec.to_builtins(self), sort_keys=True)
        return hashlib.blake2b(plain.encode(), digest_size=8).hexdigest()

    def __str__(self) -> str:
        cores = "1 core" if self.num_cores == 1 else f"{self.num_cores} cores"
        gpus = f", {', '.join(self.gpus)}" if self.gpus else ""
        return f"{self.processor}, {cores}, {self.memory_gib} GiB of memory{gpus}, {self.system}"


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """What computes: the versions, and a digest that tells two builds of one version apart."""

    package: str = ""
    version: str | None = None
    build: str | None = None

    def __str__(self) -> str:
        if self.version is None:
            return f"gguf-widgets {self.package}"
        build = f" (build {self.build[:8]})" if self.build else ""
        return f"llama-cpp-python {self.version}{build}, gguf-widgets {self.package}"


@functools.cache
def this_machine() -> Machine:
    """Describe this machine, as far as this process may use it."""
    try:
        cards = graphics_cards()
    except GgufWidgetsError as error:  # no engine here, or its driver does not answer
        _log.info("The graphics cards of this machine are not known: %s", error.message)
        cards = []
    about = about_program()
    return Machine(
        processor=about["processor"],
        num_cores=usable_cores(),
        memory_gib=round(psutil.virtual_memory().total / 2**30),
        gpus=[
            f"{card.description} ({format_bytes(card.memory_total_bytes)})"
            if card.memory_total_bytes
            else card.description
            for card in cards
        ],
        system=about["system"],
    )


@functools.cache
def this_engine() -> Engine:
    """Describe the engine that is installed, without loading it."""
    found = about_program()
    return Engine(package=found["package"], version=found["engine"], build=found["engine_files"])


# -- is it busy? ----------------------------------------------------------------------------------


class Busy(NamedTuple):
    """How much others use the machine: cores in use, and the load average of the last minute."""

    cores: float
    num_cores: int
    load: float | None

    @property
    def is_busy(self) -> bool:
        """Whether measuring now would measure the others as well."""
        if self.cores > BUSY_SHARE * self.num_cores:
            return True
        # Something that starts and stops may be between two bursts now.
        loaded = self.load is not None and self.load > _LOAD_SHARE * self.num_cores
        return loaded and self.cores > 0.5 * BUSY_SHARE * self.num_cores

    def words(self) -> str:
        """Say it in a sentence."""
        load = "" if self.load is None else f" (load average {self.load:.1f})"
        return (
            f"Before the start other programs kept {cores_words(self.cores, self.num_cores)} busy"
            f"{load}, so the speeds are lower than they could be. Measure again when the machine is"
            " quiet."
        )


def busy_now(seconds: float = 0.5) -> Busy:
    """Look at the machine for a moment, while nothing of ours computes."""
    watch = Watch()
    time.sleep(seconds)
    try:
        load = psutil.getloadavg()[0]
    except (OSError, AttributeError):
        load = None
    return Busy(watch.cores_of_others() or 0.0, _num_processors(), load)


def cores_words(cores: float, num_cores: int) -> str:
    """Say "1.3 of 2 cores"."""
    return f"{cores:.1f} of {num_cores} {'core' if num_cores == 1 else 'cores'}"


class Watch:
    """Counts from its beginning what others use of the processors.

    Parameters
    ----------
    pids : iterable of int
        Processes that are not others, besides this one.
    """

    def __init__(self, pids: Iterable[int] = ()) -> None:
        self._pids = [os.getpid(), *pids]
        self._began = time.perf_counter()
        self._busy = _busy_seconds()
        self._own = {pid: _own_seconds(pid) for pid in self._pids}

    def cores_of_others(self) -> float | None:
        """Return how many processors others kept busy on average; None if it cannot be told."""
        seconds = time.perf_counter() - self._began
        busy = _busy_seconds()
        if self._busy is None or busy is None or seconds < _SHORTEST_S:
            return None
        own = 0.0
        for pid, before in self._own.items():
            now = _own_seconds(pid)
            if before is None or now is None:
                return None  # it has ended, or may not be asked: then ours would count as others'
            own += now - before
        return max(0.0, (busy - self._busy - own) / seconds)


def _num_processors() -> int:
    return psutil.cpu_count() or 1


def _busy_seconds() -> float | None:
    """Return how long all processors together have been busy, since some moment."""
    try:
        times = psutil.cpu_times()
    except (OSError, psutil.Error):
        return None
    # A guest's time is part of "user", and on Windows interrupts are part of "system". "steal" is
    # what the host of a virtual machine took away.
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return float(sum(getattr(times, name, 0.0) for name in names))


def _own_seconds(pid: int) -> float | None:
    try:
        times = psutil.Process(pid).cpu_times()
    except (psutil.Error, OSError):
        return None
    return float(times.user + times.system)
