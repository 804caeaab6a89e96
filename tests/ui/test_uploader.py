"""Uploading in a real browser, over lines that are cut, to servers and kernels that are killed."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import nbformat
import psutil
import pytest
from playwright.sync_api import Locator, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from support.browser import LONG_MS, Watched
from support.lab_page import run_cell
from support.servers import Home, Server, lab, voila, wait_until
from support.upload_files import sha256, write_letter, write_model, write_png
from support.upload_line import Line

OpenPage = Callable[..., Watched]

ARTIFACTS = Path(__file__).parent / "artifacts"
MB = 1_000_000
SHOW = "import gguf_widgets as gw\n\ngw.ModelUploader({})"
# Lets go of a file over an element, as a person does who has dragged it there.
DROP = """(element, name) => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([new Uint8Array(500).fill(137)], name));
  for (const type of ["dragenter", "dragover", "drop"]) {
    element.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
  }
}"""


class Uploader:
    """The widget on a watched page, as a person uses it."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.page = watched.page

    def wait_until_shown(self) -> None:
        expect(self.watched.gw("upload-drop")).to_contain_text("room for", timeout=LONG_MS)

    def choose(self, *paths: Path) -> None:
        with self.page.expect_file_chooser() as chooser:
            self.watched.gw("upload-drop").click()
        chooser.value.set_files(list(paths))

    def choose_left(self, path: Path) -> None:
        """Choose a file for an upload that was left unfinished."""
        row = self.watched.gw("unfinished-row", name=path.name)
        with self.page.expect_file_chooser() as chooser:
            row.locator('[data-gw="upload-choose"]').click()
        chooser.value.set_files(path)

    def row(self, name: str) -> Locator:
        return self.watched.gw("upload-row", name=name)

    def wait_for(self, name: str, *states: str) -> None:
        wanted = ", ".join(f'[data-state="{state}"]' for state in states)
        self.row(name).and_(self.page.locator(wanted)).wait_for(timeout=2 * LONG_MS)

    def percent(self, name: str) -> int:
        bar = self.row(name).locator('[role="progressbar"]')
        return int(bar.get_attribute("aria-valuenow") or 0)

    def wait_past(self, name: str, percent: int) -> None:
        """Wait until more than this has arrived."""
        wait_until(lambda: self.percent(name) > percent, 60, f"{name} gets past {percent}%")

    def press(self, name: str, action: str) -> None:
        self.row(name).locator(f'[data-gw="upload-{action}"]').click()


class Memory:
    """Watches how much memory the processes of a home take, by what they are."""

    KINDS = (("server", "serve("), ("lab", "open_lab"), ("kernel", "ipykernel"))

    def __init__(self, home: Home) -> None:
        self._home = home
        self._base: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _now(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for kind, word in self.KINDS:
            for process in self._home.processes(word):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found[kind] = max(found.get(kind, 0), process.memory_info().rss)
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "chrom" in process.name():
                    rss = process.memory_info().rss
                    found["browser"] = max(found.get("browser", 0), rss)
        return found

    def _run(self) -> None:
        while not self._ended.wait(0.2):
            for kind, rss in self._now().items():
                self.most[kind] = max(self.most.get(kind, 0), rss)

    def begin(self) -> None:
        """Note what they take before anything is sent."""
        self._base = self._now()

    def keep(self, route: str) -> dict[str, float]:
        """Return by how many MB each kind of process grew at most, and write it down."""
        growth = {kind: (self.most[kind] - base) / MB for kind, base in self._base.items()}
        figures = {"most_mb": {kind: most / MB for kind, most in self.most.items()}}
        ARTIFACTS.mkdir(exist_ok=True)
        text = json.dumps({"growth_mb": growth, **figures}, indent=1)
        (ARTIFACTS / f"upload-memory-{route}.json").write_text(text)
        return growth

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()


def notebook(folder: Path, name: str, arguments: str = "") -> Path:
    cell = nbformat.v4.new_code_cell(SHOW.format(arguments))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / name
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
    return path


def serve(home: Home, path: Path, theme: str = "light") -> Server:
    return voila(home, path, theme)


def only_network_errors(watched: Watched) -> None:
    """Fail for what the page complained of, except for lines that were cut and files refused."""
    harmless = ("net::ERR_", "WebSocket connection to", "status of 4", "status of 5")
    ours = [one for one in watched.complaints if not any(word in one for word in harmless)]
    assert ours == []
    assert watched.hosts <= {"localhost", "127.0.0.1"}


def sent_over_http(watched: Watched) -> list[str]:
    """Return a list that every request grows which sends something by the server's own route."""
    sent: list[str] = []

    def note(method: str, url: str) -> None:
        if method != "GET" and "gw/uploads" in url:
            sent.append(f"{method} {url}")

    watched.page.on("request", lambda request: note(request.method, request.url))
    return sent


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_model(folder / "big.gguf", 300 * MB)
    write_model(folder / "middle.gguf", 40 * MB, seed=2)
    write_model(folder / "small.gguf", 4 * MB, seed=3)
    write_model(folder / "<b>:model?.GGUF", 2 * MB, seed=4)
    write_letter(folder / "letter.gguf")
    write_png(folder / "picture.png")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "person")
    yield home
    home.close()


def parts(home: Home) -> list[Path]:
    return sorted((home.models / ".uploads").glob("*.part"))


def test_http_300_mb_over_cut_lines_a_killed_server_and_a_reloaded_page(
    home: Home, files: Path, open_page: OpenPage
) -> None:
    big = files / "big.gguf"
    path = notebook(home.folder, "upload.ipynb")
    server = serve(home, path)
    with Line(server.url, bytes_per_s=60 * MB) as line, Memory(home) as memory:
        watched = open_page(line.url)
        uploader = Uploader(watched)
        uploader.wait_until_shown()
        memory.begin()
        uploader.choose(big)
        for percent in (10, 30):
            uploader.wait_past("big.gguf", percent)
            line.cut()
            uploader.wait_for("big.gguf", "reconnecting")
            line.mend()
            uploader.wait_for("big.gguf", "receiving")
        uploader.wait_past("big.gguf", 50)
        arrived = parts(home)[0].stat().st_size

        server.process.kill()
        server.process.wait()
        uploader.wait_for("big.gguf", "reconnecting")
        assert parts(home)[0].stat().st_size >= arrived, "what arrived is kept"
        with serve(home, path) as again:
            line.lead_to(again.url)
            uploader.wait_past("big.gguf", 70)  # the same page goes on by itself

            watched.page.reload(wait_until="commit")
            left = watched.gw("unfinished-row", name="big.gguf")
            left.wait_for(timeout=LONG_MS)
            uploader.choose_left(big)
            uploader.wait_for("big.gguf", "done")
            expect(left).to_have_count(0)
            target = home.models / "big.gguf"
            assert sha256(target) == sha256(big)
            assert parts(home) == []
            # Hardly anything was sent twice: the file, the pieces in flight, and the page itself.
            assert line.num_up < 1.5 * big.stat().st_size
            only_network_errors(watched)
            growth = memory.keep("http")
    assert growth["server"] < 64, growth


def test_http_what_is_refused_renamed_queued_paused_and_cancelled(
    home: Home, files: Path, open_page: OpenPage
) -> None:
    middle, small = files / "middle.gguf", files / "small.gguf"
    with (
        serve(home, notebook(home.folder, "upload.ipynb")) as server,
        Line(server.url, bytes_per_s=20 * MB) as line,
    ):
        watched = open_page(line.url)
        uploader = Uploader(watched)
        uploader.wait_until_shown()
        assert watched.gw("upload-empty").is_visible()

        # From the keyboard, and dropped.
        watched.page.keyboard.press("Tab")
        drop = watched.gw("upload-drop")
        expect(drop).to_be_focused()
        with watched.page.expect_file_chooser() as chooser:
            drop.press("Enter")
        chooser.value.set_files(files / "letter.gguf")
        drop.evaluate(DROP, "picture.png")
        for name in ("letter.gguf", "picture.png"):
            uploader.wait_for(name, "refused")
            error = uploader.row(name).locator('[data-gw="upload-error"]')
            expect(error).to_contain_text("is not a GGUF model file")
            uploader.press(name, "dismiss")
        assert list(home.models.glob("*.gguf")) == parts(home) == []

        # Two at once: the second waits for its turn, and comes by itself.
        uploader.choose(middle, small)
        uploader.wait_for("small.gguf", "waiting")
        uploader.wait_past("middle.gguf", 20)
        bar = uploader.row("middle.gguf").get_by_role("progressbar", name="middle.gguf")
        expect(bar).to_have_attribute(
            "aria-valuetext",
            re.compile(r"^\d+%, [\d.]+ of 40\sMB, [\d.]+\sMB/s, about \d+\ss left$"),
        )
        assert uploader.row("small.gguf").get_attribute("data-state") == "waiting"
        # A pause lets the other through; then the first goes on.
        uploader.press("middle.gguf", "pause")
        uploader.wait_for("middle.gguf", "paused")
        paused = uploader.percent("middle.gguf")
        uploader.wait_for("small.gguf", "done")
        assert uploader.percent("middle.gguf") == paused >= 20
        uploader.press("middle.gguf", "go-on")
        uploader.wait_past("middle.gguf", paused)
        # Cancel asks once; Esc keeps the upload.
        uploader.press("middle.gguf", "cancel")
        ask = uploader.row("middle.gguf").locator('[data-gw="upload-ask"]')
        expect(ask).to_contain_text("that have arrived?")
        watched.page.keyboard.press("Escape")
        expect(ask).to_be_hidden()
        uploader.press("middle.gguf", "cancel")
        uploader.row("middle.gguf").locator('[data-gw="upload-confirm"]').click()
        expect(uploader.row("middle.gguf")).to_have_count(0)
        wait_until(lambda: parts(home) == [], 20, "what arrived is removed")
        assert [path.name for path in home.models.glob("*.gguf")] == ["small.gguf"]

        # A name that cannot be used; the same bytes twice; a name that is taken.
        uploader.choose(files / "<b>:model?.GGUF")
        uploader.wait_for("_b__model_.gguf", "done")
        expect(uploader.row("_b__model_.gguf")).to_contain_text("cannot be used as it is")
        uploader.press("small.gguf", "dismiss")
        uploader.choose(small)
        uploader.wait_for("small.gguf", "already_there")
        (home.models / "middle.gguf").write_bytes(b"of another program")
        uploader.choose(middle)
        uploader.wait_for("middle.gguf", "failed")
        way = uploader.row("middle.gguf").locator('[data-gw="upload-way"]')
        expect(way).to_have_text("Save as “middle (2).gguf”")
        line.bytes_per_s = None
        way.click()
        uploader.wait_for("middle (2).gguf", "done")
        assert sha256(home.models / "middle (2).gguf") == sha256(middle)
        assert (home.models / "middle.gguf").read_bytes() == b"of another program"
        only_network_errors(watched)


def test_http_a_file_that_changes_under_way_and_a_second_page(
    home: Home, files: Path, open_page: OpenPage, tmp_path: Path
) -> None:
    moving = write_model(tmp_path / "moving.gguf", 40 * MB, seed=5)
    with (
        serve(home, notebook(home.folder, "upload.ipynb")) as server,
        Line(server.url, bytes_per_s=8 * MB) as line,
    ):
        first, second = Uploader(open_page(line.url)), Uploader(open_page(line.url))
        for uploader in (first, second):
            uploader.wait_until_shown()
        first.choose(moving)
        first.wait_past("moving.gguf", 10)
        second.choose(moving)
        second.wait_for("moving.gguf", "failed")
        way = second.row("moving.gguf").locator('[data-gw="upload-way"]')
        expect(way).to_have_text("Take over")
        way.click()
        second.wait_for("moving.gguf", "receiving")
        first.wait_for("moving.gguf", "failed")
        expect(first.row("moving.gguf")).to_contain_text("Another page has taken over")

        second.wait_past("moving.gguf", 30)
        with moving.open("r+b") as file:
            file.seek(-8, 2)
            file.write(b"changed!")
        second.wait_for("moving.gguf", "failed")
        error = second.row("moving.gguf").locator('[data-gw="upload-error"]')
        expect(error).to_contain_text("cannot read this file any more")
        assert list(home.models.glob("*.gguf")) == []
        only_network_errors(second.watched)


def test_voila_300_mb_over_messages_cut_lines_a_reloaded_page_and_a_killed_server(
    home: Home, files: Path, open_page: OpenPage
) -> None:
    """A folder of its own: the server's route is not for that one, so the pieces are messages."""
    big = files / "big.gguf"
    target = home.folder / "elsewhere"
    path = notebook(home.folder, "upload.ipynb", f"folder={str(target)!r}")
    server = serve(home, path)
    with Line(server.url, bytes_per_s=40 * MB) as line, Memory(home) as memory:
        watched = open_page(line.url)
        sent = sent_over_http(watched)
        uploader = Uploader(watched)
        uploader.wait_until_shown()
        memory.begin()
        uploader.choose(big)
        for percent in (10, 25):
            uploader.wait_past("big.gguf", percent)
            line.cut()
            line.mend()
        uploader.wait_past("big.gguf", 40)

        # Another page: Voila starts another kernel for it, which knows what the first has left.
        watched.page.reload(wait_until="commit")
        watched.gw("unfinished-row", name="big.gguf").wait_for(timeout=LONG_MS)
        uploader.choose_left(big)
        uploader.wait_past("big.gguf", 60)
        server.process.kill()
        server.process.wait()
        with serve(home, path) as again:
            line.lead_to(again.url)
            watched.page.reload(wait_until="commit")
            watched.gw("unfinished-row", name="big.gguf").wait_for(timeout=LONG_MS)
            uploader.choose_left(big)
            uploader.wait_for("big.gguf", "done")
            assert sha256(target / "big.gguf") == sha256(big)
            assert list((target / ".uploads").glob("*.part")) == []
            assert list(home.models.glob("*.gguf")) == []
            assert line.num_up < 1.5 * big.stat().st_size
            assert sent == []
            only_network_errors(watched)
            growth = memory.keep("voila-messages")
    assert growth["kernel"] < 200, growth


def test_a_notebook_that_has_moved_its_folder_is_uploaded_to_by_messages(
    home: Home, files: Path, open_page: OpenPage
) -> None:
    """The server was started with another one: its route would put the file where nobody looks."""
    other = home.folder / "moved"
    path = notebook(home.folder, "upload.ipynb")
    book = nbformat.read(path, as_version=4)
    book.cells[
        0
    ].source = (
        f"import os\nos.environ['GGUF_WIDGETS_HOME'] = {str(other)!r}\n{book.cells[0].source}"
    )
    nbformat.write(book, path)
    with serve(home, path) as server, Line(server.url) as line:
        watched = open_page(line.url)
        sent = sent_over_http(watched)
        uploader = Uploader(watched)
        uploader.wait_until_shown()
        small = files / "small.gguf"
        uploader.choose(small)
        uploader.wait_for("small.gguf", "done")
        assert sha256(other / "models/small.gguf") == sha256(small)
        assert sent == []
        assert list(home.models.iterdir()) == []
        watched.assert_clean()


def test_lab_300_mb_over_cut_lines_a_reloaded_page_a_killed_kernel_and_a_killed_server(
    home: Home, files: Path, open_page: OpenPage
) -> None:
    big = files / "big.gguf"
    folder = home.folder / "notebooks"
    folder.mkdir()
    notebook(folder, "upload.ipynb")
    with (
        lab(home, folder) as server,
        Line(server.url, bytes_per_s=40 * MB) as line,
        Memory(home) as memory,
    ):
        watched = open_page(line.url.split("/lab")[0] + "/lab/tree/upload.ipynb")
        uploader = Uploader(watched)
        # JupyterLab says in dialogs that a kernel or a server has gone.
        watched.page.add_locator_handler(
            watched.page.locator(".jp-Dialog"),
            lambda dialog: dialog.locator("button.jp-mod-accept").first.click(),
        )

        def go_on() -> None:
            """Show the widget again and choose the file that it has left unfinished.

            JupyterLab may have lost its kernel just when the cell was run; a person does it again.
            """
            left = watched.gw("unfinished-row", name="big.gguf")
            for _ in range(3):
                run_cell(watched)
                with contextlib.suppress(PlaywrightTimeout):
                    left.wait_for(timeout=LONG_MS)
                    break
                watched.page.reload(wait_until="commit")
            uploader.choose_left(big)

        run_cell(watched)
        uploader.wait_until_shown()
        memory.begin()
        uploader.choose(big)
        for percent in (10, 25):
            uploader.wait_past("big.gguf", percent)
            line.cut()
            line.mend()
        uploader.wait_past("big.gguf", 40)

        watched.page.reload(wait_until="commit")
        go_on()
        uploader.wait_past("big.gguf", 55)

        for kernel in home.kernels():
            kernel.kill()
        # JupyterLab starts another kernel; the widget says that nobody answers.
        watched.gw("uploader").get_by_text("Python does not answer").wait_for(timeout=LONG_MS)
        wait_until(lambda: len(home.kernels()) == 1, 60, "JupyterLab starts a new kernel")
        go_on()
        uploader.wait_past("big.gguf", 75)

        server.process.kill()
        server.process.wait()
        with lab(home, folder) as again:
            line.lead_to(again.url)
            watched.page.reload(wait_until="commit")
            go_on()
            uploader.wait_for("big.gguf", "done")
            assert sha256(home.models / "big.gguf") == sha256(big)
            assert parts(home) == []
            assert line.num_up < 1.5 * big.stat().st_size
            only_network_errors(watched)
            growth = memory.keep("lab")
    assert growth["kernel"] < 200, growth
