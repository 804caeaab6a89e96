"""The dashboard's server as a person meets it: a real process, real kernels, real sockets."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.servers import Home, Server, dashboard, wait_until

from gguf_widgets.core.errors import InvalidValueError, ServerStartError
from gguf_widgets.dashboard.app import DashboardOptions, serve

# A page that opens in 2 s takes 20 when all cores are busy with something else; only a failure
# waits for all of it.
LONG_S = 90
pytestmark = pytest.mark.timeout(300)

# Serves another notebook than ours: these tests are about the server, not about the widgets.
_SERVE = (
    "import json, sys; from pathlib import Path;"
    "from gguf_widgets.dashboard.app import DashboardOptions, serve;"
    "serve(DashboardOptions(notebook=Path(sys.argv[1]), open_browser=False, port=0,"
    " **json.loads(sys.argv[2])))"
)


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("person"))
    yield home
    home.close()


def serve_notebook(home: Home, source: str, **options: Any) -> Server:
    path = write_notebook(home.folder / f"served-{len(list(home.folder.iterdir()))}.ipynb", source)
    return Server(home, ["-c", _SERVE, str(path), json.dumps(options)], "Open http")


def write_notebook(path: Path, source: str) -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), path)
    return path


class Site:
    """One running server whose notebook can be changed between visits."""

    def __init__(self, home: Home) -> None:
        self.notebook = write_notebook(home.folder / "site.ipynb", "1")
        self.server = Server(home, ["-c", _SERVE, str(self.notebook), "{}"], "Open http")

    def visitor(self, source: str) -> Visitor:
        write_notebook(self.notebook, source)
        return Visitor(self.server.url)


@pytest.fixture(scope="module")
def site(person: Home) -> Iterator[Site]:
    # A spec that another installation left behind comes first for any other Jupyter program.
    spec = Path(person.environment["JUPYTER_DATA_DIR"]) / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = ["/nowhere/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Not ours", "language": "python"})
    )
    started = Site(person)
    yield started
    assert started.server.stop() == 0
    assert "Traceback" not in started.server.text().replace("Traceback (most recent", "", 1)


class Visitor:
    """A browser without JavaScript: cookies, pages, the beacon that a closing page sends."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookies = CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies)
        )

    def get(self, path: str = "", **headers: str) -> str:
        request = urllib.request.Request(self.url + path, headers=headers)  # noqa: S310  # ours
        with self._opener.open(request, timeout=LONG_S) as answer:
            return answer.read().decode()

    def leave(self, page: str) -> int:
        """Say what Voila's page says when it is closed or reloaded; return the HTTP status."""
        kernel = re.search(r'"kernelId": "([0-9a-f-]+)"', page)
        assert kernel is not None
        xsrf = next((one.value for one in self.cookies if one.name == "_xsrf"), "")
        address = f"{self.url}voila/api/shutdown/{kernel[1]}"
        form = f"_xsrf={xsrf}".encode()
        request = urllib.request.Request(address, data=form, method="POST")  # noqa: S310  # ours
        with self._opener.open(request, timeout=LONG_S) as answer:
            return answer.status


def no_kernels(person: Home) -> None:
    wait_until(lambda: not person.kernels(), LONG_S, "every kernel of a page that was left ends")


def test_each_page_has_a_kernel_of_this_python_and_ends_it_when_it_is_left(
    person: Home, site: Site
) -> None:
    visitor = site.visitor("import sys, os; print(sys.executable, os.getcwd())")
    for _ in range(3):
        page = visitor.get()
        # The folder where the program was started, not that of the notebook.
        assert f"{sys.executable} {person.folder / 'work'}" in page
        assert len(person.kernels()) == 1
        assert visitor.leave(page) == 204
        no_kernels(person)


def test_a_failing_notebook_is_told_in_words_escaped_and_nothing_comes_from_other_hosts(
    person: Home, site: Site
) -> None:
    visitor = site.visitor("raise ValueError('the <b>store</b> is broken')")
    page = visitor.get()
    assert "The dashboard could not open" in page
    assert "<p>the &lt;b&gt;store&lt;/b&gt; is broken</p>" in page
    assert "<b>store" not in page
    assert re.findall(r"""(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""", page) == []
    assert "cdn" not in page.lower()
    visitor.leave(page)
    no_kernels(person)


def test_a_kernel_that_dies_at_its_start_ends_in_words_not_in_an_endless_wait(
    person: Home, site: Site
) -> None:
    page = site.visitor("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").get()
    assert "The dashboard could not open" in page or "gw_did_not_start()" in page
    no_kernels(person)


def test_a_visitor_who_leaves_before_the_page_is_ready_leaves_no_kernel(
    person: Home, site: Site
) -> None:
    site.visitor("import time; time.sleep(1)")
    host, port = site.server.url.removeprefix("http://").rstrip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=LONG_S) as raw:
        raw.sendall(f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 200")
        wait_until(person.kernels, LONG_S, "the page's kernel starts")
    no_kernels(person)


def test_without_a_token_only_this_machines_own_names_are_let_in(person: Home, site: Site) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        site.visitor("1").get(Host="evil.example")
    assert refused.value.code == 403
    page = refused.value.read().decode()
    assert "under the name “evil.example”" in page
    assert "--token" in page
    assert "cdn" not in page
    refused.value.close()
    assert person.kernels() == []


def test_a_forgotten_kernel_is_ended_once_it_has_nothing_to_do(person: Home) -> None:
    # It works as an answer does: messages from a thread, with no cell running and no page there.
    works = (
        "import pathlib, threading, time, ipywidgets\n"
        "label = ipywidgets.Label()\n"
        "def work():\n"
        "    end = time.monotonic() + 10\n"
        "    while time.monotonic() < end:\n"
        "        label.value = str(time.monotonic())\n"
        "        time.sleep(0.05)\n"
        "    pathlib.Path('work-done').touch()\n"
        "threading.Thread(target=work).start()\n"
    )
    with serve_notebook(person, works, idle_timeout_s=8, idle_check_s=1) as server:
        Visitor(server.url).get()
        wait_until(lambda: not person.kernels(), LONG_S, "the idle kernel is ended")
    assert (person.folder / "work" / "work-done").exists()  # and not before it was idle


def test_ending_the_server_ends_its_kernels_and_leaves_no_files(person: Home) -> None:
    temporary = person.folder / "tmp"
    temporary.mkdir()
    person.environment["TMPDIR"] = str(temporary)
    try:
        with serve_notebook(person, "1") as server:
            Visitor(server.url).get()
            assert person.kernels()
            assert list(temporary.iterdir())  # the connection files
            assert server.stop(signal.SIGTERM) == 0
    finally:
        del person.environment["TMPDIR"]
    assert person.kernels() == []
    assert list(temporary.iterdir()) == []
    assert "Traceback" not in server.text()


def test_a_token_is_made_where_others_could_reach_the_page(person: Home) -> None:
    with serve_notebook(person, "1", ip="0.0.0.0") as server:  # noqa: S104  # it is what is tested
        address, _, token = server.url.partition("?token=")
        assert len(token) >= 32
        assert f"From another machine: http://{socket.gethostname()}:" in server.text()
        visitor = Visitor(address)
        login = visitor.get()
        assert "kernelId" not in login
        assert "This page needs a token" in login
        assert "cdn" not in login
        assert person.kernels() == []
        assert "kernelId" in visitor.get(f"?token={token}", Host="some.name.example")


def test_a_taken_port_is_said_and_the_next_free_one_used(person: Home) -> None:
    with contextlib.ExitStack() as stack:
        taken = stack.enter_context(socket.socket())
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = stack.enter_context(dashboard(person, "--port", str(port)))
        assert f"Port {port} is taken; using " in server.text()
        assert not server.url.endswith(f":{port}/")


def test_options_that_cannot_be_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ServerStartError, match="There is no notebook at"):
        serve(DashboardOptions(notebook=tmp_path / "none.ipynb"))
    with pytest.raises(InvalidValueError, match="it must be from 0 to 65535"):
        DashboardOptions(port=70000)
    with pytest.raises(InvalidValueError, match='it can be "light" or "dark"'):
        DashboardOptions(theme="blue")
