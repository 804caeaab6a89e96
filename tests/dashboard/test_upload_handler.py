"""Uploads over the dashboard's own server: a real process, real sockets, real interruptions."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from support.model_bytes import head_of, model_bytes, model_header, sha256_of, write_model
from support.servers import Home, Server, wait_until

from gguf_widgets.core.upload import HEAD_BYTES, UploadStore

LONG_S = 90
pytestmark = pytest.mark.timeout(300)

# `{}` is for faults and limits of a test's own.
_SERVE = (
    "import json, sys; from gguf_widgets.dashboard import app, upload_handler;"
    "from gguf_widgets.core.upload import UploadLimits, UploadStore, part, store\n{}\n"
    "app.serve(app.DashboardOptions(open_browser=False, port=0, **json.loads(sys.argv[1])))"
)
XSRF, TOKEN = "ab" * 16, "made up"


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "person")
    yield home
    home.close()


@pytest.fixture
def shared(one_server: Page) -> Iterator[Page]:
    """That server, with nothing under way before and after."""
    yield one_server
    for upload in one_server.ask("GET")[1]["uploads"]:
        state = one_server.models / ".uploads" / f"{upload['id']}.json"
        writer = json.loads(state.read_bytes())["writer"]
        one_server.ask("DELETE", f"/{upload['id']}", writer=writer)


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A server for the tests that leave it as it is."""
    home = Home(tmp_path_factory.mktemp("shared"))
    with start(home) as server:
        yield Page(server)
    assert "Traceback" not in server.text()
    home.close()


def start(home: Home, *, code: str = "", **options: Any) -> Server:
    return Server(home, ["-c", _SERVE.format(code), json.dumps(options)], "Open http")


class Page:
    """What the browser's side does, with connections that can be cut."""

    def __init__(self, server: Server, *, token: str = "") -> None:
        parts = urlsplit(server.url)
        self.server = server
        self.models = server.home.models
        self.address = (parts.hostname or "localhost", parts.port or 80)
        self.headers = {"Cookie": f"_xsrf={XSRF}", "X-XSRFToken": XSRF}
        if token:
            self.headers = {"Authorization": f"token {token}"}

    def ask(
        self,
        method: str,
        path: str = "",
        body: Any = None,
        *,
        writer: str = "",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Send one request; return the status and the JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body else b""
        sent = {**self.headers, "X-Upload-Writer": writer, **(headers or {})}
        with contextlib.closing(http.client.HTTPConnection(*self.address, timeout=LONG_S)) as line:
            line.request(method, f"/gw/uploads{path}", data, sent)
            answer = line.getresponse()
            text = answer.read()
        return answer.status, json.loads(text) if text else None

    def begin(self, data: bytes, name: str = "m.gguf", **more: Any) -> tuple[int, Any]:
        return self.begin_as(name, len(data), head_of(data), **more)

    def begin_as(self, name: str, size: int, head: bytes, **more: Any) -> tuple[int, Any]:
        head64 = base64.b64encode(head).decode()
        return self.ask("POST", "", {"name": name, "size": size, "head": head64, **more})

    def put(self, upload: Any, offset: int, data: bytes) -> tuple[int, Any]:
        path = f"/{upload['id']}?offset={offset}"
        return self.ask("PUT", path, data, writer=upload["writer"])

    def open_put(
        self, upload: Any, offset: int, length: int, headers: dict[str, str] | None = None
    ) -> socket.socket:
        """Send the head of a PUT; the body is up to the test."""
        line = socket.create_connection(self.address, timeout=LONG_S)
        head = [f"PUT /gw/uploads/{upload['id']}?offset={offset} HTTP/1.1", "Host: localhost"]
        sent = {**self.headers, "X-Upload-Writer": upload["writer"], "Content-Length": str(length)}
        head += [f"{key}: {value}" for key, value in {**sent, **(headers or {})}.items()]
        line.sendall("\r\n".join([*head, "", ""]).encode())
        return line

    def state(self, upload: Any) -> Any:
        status, state = self.ask("GET", f"/{upload['id']}", writer=upload["writer"])
        assert status == 200, state
        return state

    def finish(self, upload: Any, **options: Any) -> Any:
        path = f"/{upload['id']}/finish"
        status, state = self.ask("POST", path, options, writer=upload["writer"])
        assert status == 202, state
        end = time.monotonic() + LONG_S
        while state["state"] == "checking":
            assert time.monotonic() < end
            time.sleep(0.05)
            state = self.state(upload)
        return state


def refused(answer: tuple[int, Any], status: int, problem: str) -> Any:
    assert answer[0] == status, answer
    assert set(answer[1]) == {"kind", "message", "details"}
    assert answer[1]["details"]["problem"] == problem
    return answer[1]["details"]


def test_a_file_goes_the_whole_way_and_the_folder_holds_exactly_it(shared: Page) -> None:
    data = model_bytes(3_000_000, seed=1)
    status, upload = shared.begin(data, "../whole.gguf", label="a page", last_modified_ms=5)
    assert (status, upload["name"], upload["send_from"]) == (201, "whole.gguf", 0)
    status, listed = shared.ask("GET")
    assert (status, [one["id"] for one in listed["uploads"]]) == (200, [upload["id"]])
    assert (listed["head_bytes"], listed["piece_bytes"]) == (HEAD_BYTES, 64 << 20)
    # A notebook tells from this whether the way leads to its own folder; no path is in it.
    assert listed["folder"] == UploadStore(shared.models).mark
    assert str(shared.models) not in json.dumps(listed)
    status, state = shared.put(upload, 0, data[:2_500_000])
    assert (status, state["offset"], state["writer"]) == (200, 2_500_000, "")
    path = f"/{upload['id']}/pause"
    assert shared.ask("POST", path, writer=upload["writer"])[1]["state"] == "paused"
    refused(shared.put(upload, 2_500_000, data[2_500_000:]), 409, "paused")
    path = f"/{upload['id']}/resume"
    assert shared.ask("POST", path, writer=upload["writer"])[1]["state"] == "receiving"
    assert shared.put(upload, 2_400_000, data[2_400_000:])[1]["offset"] == len(data)
    done = shared.finish(upload)
    assert (done["state"], done["path"]) == ("done", str(shared.models / "whole.gguf"))
    assert sha256_of(Path(done["path"])) == done["sha256"]
    assert shared.state(upload) == done
    # The same file again is recognised.
    upload = shared.begin(data, "other.gguf")[1]
    assert upload["looks_like"] == "whole.gguf"
    shared.put(upload, 0, data)
    assert shared.finish(upload)["state"] == "already_there"
    assert not (shared.models / "other.gguf").exists()


def test_every_refusal_has_its_status_and_words(shared: Page) -> None:
    data = model_bytes(1_000_000, seed=2)
    refused(shared.begin(data, "x" * 5000), 400, "name")
    refused(shared.begin_as("m.gguf", 0, b""), 400, "size")
    refused(shared.begin_as("m.gguf", 1 << 41, data[:HEAD_BYTES]), 413, "size")
    refused(shared.begin_as("m.gguf", 1_000_000, data[:10]), 400, "head")
    refused(shared.ask("POST", "", {"name": "m", "size": 1, "head": "*"}), 400, "head")
    for body in (b"{", b"[]", b"\xff", b'{"name": 1}', b'{"x": "' + b"x" * (1 << 18) + b'"}'):
        refused(shared.ask("POST", "", body), 400, "request")
    status, answer = shared.begin(b"<html>" + bytes(100), "page.gguf")
    assert (status, answer["kind"]) == (422, "NotGgufError")
    assert "looks like a web page" in answer["message"]
    refused(shared.ask("GET", f"/{'0' * 32}"), 404, "unknown")
    (shared.models / "taken.gguf").write_bytes(b"somebody's")
    assert refused(shared.begin(data, "Taken.gguf"), 409, "exists")["suggestion"]

    upload = shared.begin(data)[1]
    refused(shared.begin(data), 409, "in_use")
    assert refused(shared.put(upload, 10, data), 413, "too_long")["limit"] == len(data) - 10
    assert refused(shared.put(upload, 10, data[10:]), 409, "gap")["offset"] == 0
    refused(shared.put(upload, 0, b""), 400, "piece")
    refused(shared.ask("PUT", f"/{upload['id']}?offset=-1", data), 400, "piece")
    stranger = {**upload, "writer": "somebody"}
    refused(shared.put(stranger, 0, data), 409, "taken_over")
    refused(shared.ask("DELETE", f"/{upload['id']}"), 409, "in_use")
    shared.put(upload, 0, data[:500_000])
    refused(shared.put(upload, 100_000, bytes(600_000)), 409, "changed")
    path = f"/{upload['id']}/finish"
    refused(shared.ask("POST", path, writer=upload["writer"]), 409, "incomplete")
    other = shared.begin(model_bytes(1_000_000, seed=3), "n.gguf")[1]
    assert (other["state"], other["place"]) == ("waiting", 1)
    refused(shared.put(other, 0, data), 503, "waiting")
    with shared.open_put(upload, 0, 5, {"Transfer-Encoding": "chunked"}) as line:
        assert b" 400 " in line.recv(100)
    for one in (upload, other):
        assert shared.ask("DELETE", f"/{one['id']}", writer=one["writer"]) == (204, None)
    assert shared.ask("GET")[1]["uploads"] == []
    assert shared.ask("PATCH", f"/{upload['id']}")[0] == 405


def test_a_refusal_of_a_huge_body_comes_before_the_body(shared: Page) -> None:
    size = 400 << 20
    start_of_file = model_header(size).ljust(HEAD_BYTES, b"\0")
    upload = shared.begin_as("huge.gguf", size, start_of_file)[1]
    with shared.open_put({**upload, "writer": "somebody"}, 0, size) as line:
        assert line.recv(20).startswith(b"HTTP/1.1 409")
    shared.put(upload, 0, start_of_file)
    # In the middle, too: what comes is not what came before.
    with shared.open_put(upload, 0, size) as line:
        num_mib, answer = 0, b"HTTP/1.1 409"
        # A line that is cut while bytes are still on their way may lose the answer: only that the
        # server does not take them all is sure.
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while num_mib < 200 and not select.select([line], [], [], 0)[0]:
                line.sendall(bytes(1 << 20))
                num_mib += 1
            answer = line.recv(20)
    assert num_mib < 200
    assert answer.startswith(b"HTTP/1.1 409")
    assert shared.state(upload)["offset"] == len(start_of_file)


def test_nobody_gets_in_who_does_not_get_into_the_dashboard(shared: Page, person: Home) -> None:
    data = model_bytes(100_000, seed=5)
    upload = shared.begin(data, "guarded.gguf")[1]
    for headers in (
        {"X-XSRFToken": "cd" * 16},
        {"X-XSRFToken": "", "Cookie": ""},
        {"Host": "evil.example:80"},
        {"Origin": "http://evil.example"},
    ):
        for method, path, body in (
            ("POST", "", {"name": "m.gguf", "size": 1, "head": ""}),
            ("PUT", f"/{upload['id']}?offset=0", data),
            ("POST", f"/{upload['id']}/finish", None),
            ("DELETE", f"/{upload['id']}", None),
        ):
            status, answer = shared.ask(
                method, path, body, writer=upload["writer"], headers=headers
            )
            assert status in (403, 404), (headers, method)
            assert set(answer) == {"kind", "message", "details"}
    assert shared.ask("GET", headers={"Host": "evil.example"})[0] == 403
    assert shared.state(upload)["offset"] == 0
    shared.ask("DELETE", f"/{upload['id']}", writer=upload["writer"])

    with start(person, token=TOKEN) as server:
        assert Page(server).begin(data)[0] == 403
        assert Page(server, token=TOKEN[::-1]).begin(data)[0] == 403
        assert Page(server).ask("GET")[0] == 403
        visitor = Page(server, token=TOKEN)
        upload = visitor.begin(data)[1]
        assert Page(server).put(upload, 0, data)[0] == 403
        assert visitor.state(upload)["offset"] == 0
        visitor.put(upload, 0, data)
        assert visitor.finish(upload)["state"] == "done"


def test_only_this_route_takes_long_bodies(shared: Page) -> None:
    for path in ("/", "/gw/uploads", f"/gw/uploads/{'0' * 32}/finish"):
        with socket.create_connection(shared.address, timeout=LONG_S) as line:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {200 << 20}\r\n\r\n"
            line.sendall(head.encode())
            assert line.recv(20).startswith(b"HTTP/1.1 400"), path


def test_a_cut_connection_keeps_what_arrived_and_the_page_goes_on_there(shared: Page) -> None:
    data = model_bytes(20_000_000, seed=6)
    upload = shared.begin(data, "cut.gguf")[1]
    offset = 0
    for step in (1, 1000, 65_536, 2_097_152, 3_333_333, 7_000_000):
        line = shared.open_put(upload, offset, len(data) - offset)
        line.sendall(data[offset : offset + step])
        line.close()
        offset += step
        wait_until(
            lambda want=offset: shared.state(upload)["offset"] == want,
            LONG_S,
            f"all {offset} bytes that were sent before the connection was cut",
        )
    # Reset instead of closed: what the server had not read is lost with it, the rest is there.
    line = shared.open_put(upload, offset, len(data) - offset)
    line.sendall(data[offset : offset + 1_000_000])
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    line.close()
    # Another page, without the first one's right to write, goes on without having to insist.
    wait_until(lambda: shared.begin(data, "cut.gguf")[0] == 201, LONG_S, "the writer has left")
    again = shared.begin(data, "cut.gguf", take_over=True)[1]
    assert again["id"] == upload["id"]
    assert offset <= again["offset"] <= offset + 1_000_000
    assert again["send_from"] == again["offset"] - HEAD_BYTES
    refused(shared.put(upload, again["offset"], data[:1]), 409, "taken_over")
    assert shared.put(again, again["send_from"], data[again["send_from"] :])[0] == 200
    done = shared.finish(again)
    assert (done["state"], sha256_of(Path(done["path"]))) == ("done", done["sha256"])
    assert Path(done["path"]).read_bytes() == data


def test_a_page_that_another_one_has_replaced_is_told_in_the_middle_of_a_body(
    shared: Page,
) -> None:
    data = model_bytes(12_000_000, seed=10)
    first = shared.begin(data, "fought.gguf", label="the first")[1]
    with shared.open_put(first, 0, len(data)) as line:
        line.sendall(data[:3_000_000])
        wait_until(lambda: shared.state(first)["offset"] > 0, LONG_S, "the first block")
        details = refused(shared.begin(data, "fought.gguf"), 409, "in_use")
        assert details["owner"]["label"] == "the first"
        second = shared.begin(data, "fought.gguf", take_over=True)[1]
        assert second["id"] == first["id"]
        line.sendall(data[3_000_000:])
        answer = http.client.HTTPResponse(line)
        answer.begin()
        refused((answer.status, json.loads(answer.read())), 409, "taken_over")
    assert shared.put(second, second["send_from"], data[second["send_from"] :])[0] == 200
    done = shared.finish(second)
    assert Path(done["path"]).read_bytes() == data


def test_what_trickles_in_is_written_before_a_block_is_full(shared: Page) -> None:
    data = model_bytes(1_000_000, seed=11)
    upload = shared.begin(data, "slow.gguf")[1]
    with shared.open_put(upload, 0, len(data)) as line:
        for start in range(0, 200_000, 1000):
            line.sendall(data[start : start + 1000])
            if shared.state(upload)["offset"]:
                break
            time.sleep(0.05)
        assert 0 < shared.state(upload)["offset"] <= 200_000
        assert shared.state(upload)["owner"] is not None


def test_a_server_that_is_killed_is_gone_on_with_by_the_next(person: Home) -> None:
    data = model_bytes(40_000_000, seed=7)
    upload: Any = None
    for round_number, fraction in enumerate((0.1, 0.5, 0.9)):
        with start(person) as server:
            page = Page(server)
            before = upload["offset"] if upload else 0
            upload = page.begin(data, writer=upload["writer"] if upload else None)[1]
            assert upload["offset"] >= before
            assert (upload["offset"] > 0) == (round_number > 0)
            offset = upload["send_from"]
            with page.open_put(upload, offset, len(data) - offset) as line:
                line.sendall(data[offset : int(len(data) * fraction)])
                wait_until(
                    lambda page=page, upload=upload: (
                        page.state(upload)["offset"] > upload["offset"]
                    ),
                    LONG_S,
                    "something arrives",
                )
                server.stop(signal.SIGKILL)
        assert list(person.models.glob("*.gguf")) == []
    with start(person) as server:
        page = Page(server)
        upload = page.begin(data, writer=upload["writer"])[1]
        assert upload["offset"] > 20_000_000
        assert page.put(upload, upload["send_from"], data[upload["send_from"] :])[0] == 200
        done = page.finish(upload)
    assert (done["state"], sha256_of(person.models / "m.gguf")) == ("done", done["sha256"])
    assert (person.models / "m.gguf").read_bytes() == data


def test_a_disk_that_stands_still_stops_nobody_else_and_fills_no_memory(person: Home) -> None:
    stuck, go_on = person.folder / "stuck", person.folder / "go-on"
    code = (
        "import time; from pathlib import Path; real = part.OpenPart.append\n"
        "def slow(self, data):\n"
        f"    Path({str(stuck)!r}).touch()\n"
        f"    while not Path({str(go_on)!r}).exists(): time.sleep(0.01)\n"
        "    real(self, data)\n"
        "part.OpenPart.append = slow"
    )
    data = model_bytes(60_000_000, seed=8)
    with start(person, code=code) as server:
        page = Page(server)
        upload = page.begin(data)[1]
        memory = psutil.Process(server.process.pid).memory_info().rss
        answers: list[Any] = []
        sender = threading.Thread(target=lambda: answers.append(page.put(upload, 0, data)))
        sender.start()
        wait_until(stuck.exists, LONG_S, "the first block is being written")
        with contextlib.closing(http.client.HTTPConnection(*page.address, timeout=30)) as line:
            for _ in range(20):
                line.request("GET", "/favicon.ico")
                assert line.getresponse().read().startswith(b"<svg")
        # The sender is held back by the socket, not by the server's memory.
        grown = psutil.Process(server.process.pid).memory_info().rss - memory
        assert grown < 32 << 20
        go_on.touch()
        sender.join(LONG_S)
        assert answers[0][1]["offset"] == len(data)
        assert page.finish(upload)["state"] == "done"


def test_a_disk_that_is_full_in_the_middle_is_told_and_goes_on(person: Home) -> None:
    room = person.folder / "room"
    room.write_text("5000000")
    code = (
        "import errno, os; from pathlib import Path; real = os.write\n"
        "def write(descriptor, data):\n"
        f"    room = int(Path({str(room)!r}).read_text())\n"
        "    name = os.readlink(f'/proc/self/fd/{descriptor}')\n"
        "    if not name.endswith('.part'): return real(descriptor, data)\n"
        "    left = room - os.fstat(descriptor).st_size\n"
        "    if left <= 0: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "    return real(descriptor, data[:left])\n"
        "os.write = write"
    )
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to see which file is written")
    data = model_bytes(12_000_000, seed=9)
    with start(person, code=code) as server:
        page = Page(server)
        upload = page.begin(data)[1]
        details = refused(page.put(upload, 0, data), 507, "space")
        assert details["offset"] == 5_000_000
        assert page.state(upload)["offset"] == 5_000_000
        room.write_text("100000000")
        assert page.put(upload, 5_000_000, data[5_000_000:])[0] == 200
        done = page.finish(upload)
    assert sha256_of(person.models / "m.gguf") == done["sha256"]
    assert (person.models / "m.gguf").read_bytes() == data


@pytest.mark.slow
def test_the_servers_memory_does_not_grow_with_the_file(person: Home, tmp_path: Path) -> None:
    size, source = 300_000_000, tmp_path / "large.gguf"
    digest = write_model(source, size)
    with start(person) as server, source.open("rb") as file:
        page = Page(server)
        process = psutil.Process(server.process.pid)
        head = file.read(HEAD_BYTES)
        upload = page.begin_as("large.gguf", size, head)[1]
        before = process.memory_info().rss
        most, ended = [before], threading.Event()

        def watch() -> None:
            while not ended.wait(0.01):
                most.append(process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for start_of_piece in range(0, size, 64 << 20):
                file.seek(start_of_piece)
                piece = file.read(64 << 20)
                assert page.put(upload, start_of_piece, piece)[0] == 200
            done = page.finish(upload)
        finally:
            ended.set()
            watcher.join()
    assert done["sha256"] == digest
    grown = max(most) - before
    assert len(most) > 20
    assert grown < 64_000_000
