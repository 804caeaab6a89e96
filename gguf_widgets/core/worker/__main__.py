"""The worker's process: ``python -m gguf_widgets.core.worker ... -- MODEL``.

Promises: it listens, registers itself, loads, serves, and takes its files away when it ends,
whatever it ends by (a kill excepted; the next program that looks removes them then). Started by
`spawn`, never by hand. Leaves to others: everything in between (`server`).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import sys

import psutil

import gguf_widgets
from gguf_widgets.core.types import LoadSettings
from gguf_widgets.core.worker import endpoint, protocol, registry
from gguf_widgets.core.worker.loading import LoadedModel, load
from gguf_widgets.core.worker.registry import Entry
from gguf_widgets.core.worker.server import Server, ServerOptions
from gguf_widgets.core.worker.spec import WorkerSpec, printable

# A worker that was started and never found is of no use to anybody.
_FIRST_CLIENT_S = 60.0


def main(arguments: list[str] | None = None) -> int:
    """Run one worker; return its exit status."""
    options = _parse(arguments)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # The loop's thread and the engine's take turns at every token; the default of 5 ms is long.
    sys.setswitchinterval(0.001)
    spec = WorkerSpec.from_argument(options.spec, options.path)
    listener, address = endpoint.listen(options.name)
    entry = Entry(
        name=options.name,
        host=platform.node(),
        pid=os.getpid(),
        started_at=psutil.Process().create_time(),
        protocol_version=protocol.PROTOCOL_VERSION,
        package_version=gguf_widgets.__version__,
        identity=options.identity,
        model_path=printable(spec.path),
        backend=spec.backend,
        requested=spec.requested,
        effective=None,
        address=address,
        log_path=options.log,
    )
    registered = _Registration(entry)
    try:
        server = Server(
            lambda on_progress: load(spec, on_progress),
            ServerOptions(
                backend=spec.backend,
                secret=endpoint.read_secret(address),
                keep_alive_s=options.keep_alive,
                first_client_s=_FIRST_CLIENT_S,
                still_registered=registered.is_there,
                on_ready=lambda model: registered.set_effective(_settings_of(model)),
                on_leaving=registered.set_leaving,
                on_gone=registered.remove,
            ),
        )
        registered.write()
        return asyncio.run(server.run(listener))
    finally:
        registered.remove()
        listener.close()


class _Registration:
    """The worker's own entry: written, brought up to date and removed by the worker alone."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._removed = False

    def write(self) -> None:
        registry.write(self._entry)

    def set_effective(self, settings: LoadSettings) -> None:
        # Somebody may have taken the entry away meanwhile, to be rid of this worker.
        if self.is_there():
            self._entry = registry.with_effective(self._entry, settings)
            self.write()

    def set_leaving(self) -> None:
        # The entry stays until the memory is free, for whoever has to wait for that.
        if self.is_there():
            self._entry = registry.as_leaving(self._entry)
            self.write()
        endpoint.remove_files(self._entry.address)

    def is_there(self) -> bool:
        found = registry.read(self._entry.name)
        return found is not None and found.pid == self._entry.pid

    def remove(self) -> None:
        if not self._removed:
            self._removed = True
            registry.remove(self._entry)


def _settings_of(model: LoadedModel) -> LoadSettings:
    return model.engine.settings


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gguf_widgets.core.worker",
        description="The process that runs a model; started by gguf-widgets, not by hand.",
    )
    parser.add_argument("--name", required=True)
    parser.add_argument("--identity", required=True)
    parser.add_argument("--keep-alive", type=float, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--spec", required=True)
    parser.add_argument("path")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
