"""A Dask cluster of real processes on this machine, each Dask worker a machine of its own.

Every worker has a data folder of its own (``GGUF_WIDGETS_HOME``), so it shares its model process
with nobody, as machines do.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from distributed import Client, Nanny, Scheduler, SpecCluster

__all__ = ["Machines", "cluster_of", "kill", "started_by_hand"]


class Machines:
    """A cluster and a client of it."""

    def __init__(self, client: Client, homes: list[Path]) -> None:
        self.client, self.homes = client, homes

    def workers(self) -> dict[int, int]:
        """The process of each Dask worker that is there now, by the machine's number."""
        found: dict[str, Any] = self.client.run(_who)
        return {self.homes.index(Path(home)): pid for home, pid in found.values()}

    def engines(self, number: int | None = None) -> list[psutil.Process]:
        """The model processes of a machine, or of all."""
        homes = {str(home) for home in (self.homes if number is None else [self.homes[number]])}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if (
                    "gguf_widgets.core.worker" in process.cmdline()
                    and process.environ().get("GGUF_WIDGETS_HOME") in homes
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
        return found


def _who() -> tuple[str, int]:
    return os.environ["GGUF_WIDGETS_HOME"], os.getpid()


@contextlib.contextmanager
def cluster_of(folder: Path, num: int, **client: Any) -> Iterator[Machines]:
    """Start a cluster of some machines, named "m0", "m1", ..., and end it."""
    homes = [folder / f"m{i}" for i in range(num)]
    workers = {
        f"m{i}": {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": 0,
                "dashboard": False,
                "local_directory": str(folder / "dask"),
                "env": {"GGUF_WIDGETS_HOME": str(home), "GGUF_WIDGETS_SOURCES": "none"},
            },
        }
        for i, home in enumerate(homes)
    }
    scheduler = {
        "cls": Scheduler,
        "options": {"dashboard": False, "dashboard_address": ":0", "port": 0},
    }
    with (
        SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.CRITICAL) as cluster,
        Client(cluster, set_as_default=False, **client) as one,
    ):
        one.wait_for_workers(num, timeout=60)
        yield Machines(one, homes)


@contextlib.contextmanager
def started_by_hand(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Machines]]:
    """Start a scheduler and a worker as a person does in a shell; yield the scheduler, too."""
    folder.mkdir(parents=True, exist_ok=True)
    file, home = folder / "scheduler.json", folder / "m0"
    plain = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    where = ["--scheduler-file", str(file), "--no-dashboard"]
    command = [sys.executable, "-m", "dask"]
    own = {**os.environ, "GGUF_WIDGETS_HOME": str(home), "GGUF_WIDGETS_SOURCES": "none"}
    scheduler = subprocess.Popen([*command, "scheduler", "--port", "0", *where], **plain)
    worker = subprocess.Popen([*command, "worker", "--nthreads", "1", *where], env=own, **plain)
    try:
        with Client(scheduler_file=str(file), set_as_default=False, timeout=3) as client:
            client.wait_for_workers(1, timeout=60)
            yield scheduler, Machines(client, [home])
    finally:
        for process in (worker, scheduler):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


def kill(*pids: int) -> None:
    """Kill -9."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
