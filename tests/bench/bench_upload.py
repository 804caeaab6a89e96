"""MiB/s of an upload into the models folder on loopback, beside writing the same bytes to the disk.

    python tests/bench/bench_upload.py [--rounds 5] [--mib 1024] [--quick]

A file of random bytes behind a true header is uploaded to ``gguf-widgets dashboard``, a process of
its own, by its HTTP route: begun, sent in pieces of 64 MiB as the page sends them, checked
(SHA-256, the same file looked for), synced and named. The peer is the least that anybody has to do:
the same bytes written to the same disk and synced. They take turns, another first in each round.
The same bytes as pieces of 4 MiB through `UploadSession`, as a widget's Python side gets them over
comms, are measured as well, without the comms.

The server's memory is looked at every 5 ms. The sender is this process: it shares the cores with
the server, as a browser would.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import mmap
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from bench.harness import options, read_options  # noqa: E402 - the path comes first
from bench.results import Finding, Results  # noqa: E402
from support.model_bytes import write_model  # noqa: E402
from support.servers import Home, Server, dashboard  # noqa: E402

from gguf_widgets.core.upload import HEAD_BYTES, UploadSession, UploadStore  # noqa: E402
from gguf_widgets.core.upload.session import PIECE_BYTES, WINDOW  # noqa: E402

MIB = 1 << 20
HTTP_PIECE = 64 * MIB
GOAL_MIB_PER_S, GOAL_MEMORY_MB = 80.0, 64.0
XSRF = "ab" * 16
OURS, SESSION, PEER = "over HTTP, to its name", "UploadSession, no comms", "write and fsync"


class Run(NamedTuple):
    """One turn: seconds by the clock, of the processor where the bytes arrive, and MB it grew."""

    clock: float
    processor: float
    grown_mb: float


class Page:
    """The browser's side."""

    def __init__(self, server: Server) -> None:
        parts = urlsplit(server.url)
        self._line = http.client.HTTPConnection(
            parts.hostname or "localhost", parts.port, timeout=300
        )

    def ask(self, method: str, path: str, body: Any, writer: str = "") -> Any:
        headers = {"Cookie": f"_xsrf={XSRF}", "X-XSRFToken": XSRF, "X-Upload-Writer": writer}
        self._line.request(method, f"/gw/uploads{path}", body, headers)
        answer = self._line.getresponse()
        data = json.loads(answer.read())
        assert answer.status < 300, data
        return data

    def upload(self, name: str, data: mmap.mmap) -> Path:
        """Upload a file and return its path."""
        asked = {
            "name": name,
            "size": len(data),
            "head": base64.b64encode(data[:HEAD_BYTES]).decode(),
        }
        upload = self.ask("POST", "", json.dumps(asked))
        path, writer = f"/{upload['id']}", upload["writer"]
        with memoryview(data) as view:
            for start in range(0, len(data), HTTP_PIECE):
                with view[start : start + HTTP_PIECE] as piece:
                    self.ask("PUT", f"{path}?offset={start}", piece, writer)
        state = self.ask("POST", f"{path}/finish", "{}", writer)
        while state["state"] == "checking":
            time.sleep(0.02)
            state = self.ask("GET", path, None, writer)
        assert state["state"] == "done", state
        return Path(state["path"])


@contextlib.contextmanager
def watched(process: psutil.Process) -> Iterator[list[float]]:
    """Look at a process's memory; the list gets what it grew by, in MB, and its seconds."""
    before, ended, result = process.memory_info().rss, threading.Event(), []
    most = [before]

    def look() -> None:
        while not ended.wait(0.005):
            most[0] = max(most[0], process.memory_info().rss)

    watcher = threading.Thread(target=look)
    times = process.cpu_times()
    watcher.start()
    try:
        yield result
    finally:
        ended.set()
        watcher.join()
    after = process.cpu_times()
    result += [(most[0] - before) / 1e6, after.user + after.system - times.user - times.system]


def over_http(server: Server, name: str, data: mmap.mmap) -> Run:
    page, process = Page(server), psutil.Process(server.process.pid)
    with watched(process) as result:
        start = time.perf_counter()
        path = page.upload(name, data)
        clock = time.perf_counter() - start
    path.unlink()
    return Run(clock, result[1], result[0])


def over_session(folder: Path, name: str, data: mmap.mmap) -> Run:
    store, ended = UploadStore(folder), threading.Event()
    window, last = threading.Semaphore(WINDOW), {}

    def hear(message: dict[str, Any]) -> None:
        last.update(message)
        if message["type"] == "ack":
            window.release()
        elif message["type"] != "checking":
            ended.set()

    start, processor = time.perf_counter(), time.process_time()
    session = UploadSession(store, store.begin(name, len(data), data[:HEAD_BYTES]), hear)
    for seq, offset in enumerate(range(0, len(data), PIECE_BYTES)):
        window.acquire()
        session.feed(seq, offset, data[offset : offset + PIECE_BYTES])
    assert ended.wait(300)
    assert last["type"] == "done", last
    run = Run(time.perf_counter() - start, time.process_time() - processor, 0.0)
    Path(last["upload"]["path"]).unlink()
    return run


def plainly(path: Path, data: mmap.mmap) -> Run:
    start, processor = time.perf_counter(), time.process_time()
    with path.open("wb", buffering=0) as file, memoryview(data) as view:
        for offset in range(0, len(data), MIB):
            with view[offset : offset + MIB] as piece:
                file.write(piece)
        os.fsync(file.fileno())
    run = Run(time.perf_counter() - start, time.process_time() - processor, 0.0)
    path.unlink()
    return run


def main() -> int:
    parser = options(__doc__, rounds=5)
    parser.add_argument("--mib", type=int, default=1024, help="size of the file")
    chosen = read_options(parser)
    if chosen.quick:
        chosen.mib = min(chosen.mib, 256)
    if chosen.tiny:
        chosen.mib = 8
    conditions = f"a file of {chosen.mib} MiB, {chosen.rounds} rounds"
    results = Results("upload", chosen, conditions)
    runs: dict[str, list[Run]] = {OURS: [], SESSION: [], PEER: []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = folder / "source"
        write_model(source, chosen.mib * MIB)
        home = Home(folder / "home")
        with (
            source.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            dashboard(home) as server,
        ):
            for number in range(-1, chosen.rounds):
                turns = {
                    OURS: lambda: over_http(server, "m.gguf", data),
                    SESSION: lambda: over_session(folder / "session", "m.gguf", data),
                    PEER: lambda: plainly(folder / "plain", data),
                }
                names = list(turns)
                first = number % len(names)
                for name in names[first:] + names[:first]:
                    run = turns[name]()
                    if number >= 0:  # the first is not measured: what is imported late comes then
                        runs[name].append(run)
        home.close()

    print(f"{conditions:32} {'clock':>12} {'processor':>12}   (medians)")
    speeds, costs = {}, {}
    for name, taken in runs.items():
        speeds[name] = chosen.mib / statistics.median(run.clock for run in taken)
        costs[name] = chosen.mib / max(statistics.median(run.processor for run in taken), 0.001)
        print(f"{name:32} {speeds[name]:6.0f} MiB/s {costs[name]:6.0f} MiB/s")
    by = costs if chosen.busy else speeds
    grown = max(run.grown_mb for run in runs[OURS])
    share = by[OURS] / by[PEER]
    results.add(
        Finding(
            what="uploading over the dashboard's HTTP route, on loopback",
            ours=f"{by[OURS]:.0f} MiB/s",
            peer=f"writing the same to the disk {by[PEER]:.0f} MiB/s",
            reading=f"{by[OURS]:.0f} MiB/s, {share:.2f} times the speed of writing alone",
            ratio=by[OURS],
            goal=GOAL_MIB_PER_S,
        )
    )
    results.add(
        Finding(
            what="how much the server's memory grows by it",
            ours=f"{grown:.1f} MB",
            reading=f"{grown:.1f} MB",
            ratio=grown,
            goal=GOAL_MEMORY_MB,
            less_is_better=True,
        )
    )
    results.add(
        Finding(
            what="receiving pieces of 4 MiB as messages, without the comms",
            ours=f"{by[SESSION]:.0f} MiB/s",
            peer=f"writing the same to the disk {by[PEER]:.0f} MiB/s",
            reading=f"{by[SESSION]:.0f} MiB/s",
            in_readme=False,
        )
    )
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
