"""Finding and fetching models in a real browser, from a hub that breaks off, refuses and lies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect
from support.browser import LONG_MS, Watched
from support.download_page import Downloader
from support.hub_server import HubServer, files_below, model_file, projector_file, split_files
from support.lab_page import reload, run_cell, save
from support.screen_check import faults_of
from support.servers import Home, Server, lab, voila, wait_until

OpenPage = Callable[..., Watched]

SHOW = """
from gguf_widgets.widgets.model_downloader import ModelDownloader

downloader = ModelDownloader()
downloader
"""
REPO = "owner/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"
TOKEN = "a-made-up-one"  # noqa: S105 - of a hub that lives for one test
DATA = model_file(6_000_000)
SMALL = model_file(400_000, seed=1)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as hub:
        hub.add(REPO, {FILE: DATA, "tiny-Q8_0.gguf": SMALL, "mmproj-F16.gguf": projector_file()})
        yield hub


@pytest.fixture
def home(tmp_path: Path, hub: HubServer) -> Iterator[Home]:
    home = Home(tmp_path / "person")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        home.environment.pop(name, None)
    home.environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home.folder / "hf")}
    yield home
    home.close()


def notebook(folder: Path, before: str = "") -> Path:
    cell = nbformat.v4.new_code_cell(before + SHOW)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / "download.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
    return path


def serve(home: Home, theme: str = "light", before: str = "") -> Server:
    return voila(home, notebook(home.folder, before), theme)


def sound(watched: Watched) -> None:
    """Fail for what is cut off, out of reach or too faint on the screen as it is."""
    assert faults_of(watched.page, '[data-gw="downloader"]') == []


def quiet(watched: Watched) -> None:
    """Fail for what the page complained of, and for any host that it asked but its own."""
    assert [one for one in watched.complaints if "net::ERR_" not in one] == []
    assert watched.hosts <= {"localhost", "127.0.0.1"}


def part(home: Home, file: str = FILE) -> Path:
    return home.models / REPO / ".downloads" / f"{file}.part"


def test_search_open_fetch_pause_go_on_and_cancel(
    home: Home, hub: HubServer, open_page: OpenPage
) -> None:
    with serve(home) as server:
        watched = open_page(server.url)
        downloader = Downloader(watched)
        downloader.wait_until_shown()
        sound(watched)
        # From the empty page, by a word that is offered.
        hub.add("owner/small-instruct-GGUF", {"small-Q4_K_M.gguf": SMALL})
        watched.gw("get-word").first.click()
        expect(watched.gw("get-repo")).to_have_count(1)
        expect(downloader.input).to_have_value("instruct")
        expect(downloader.input).to_be_focused()
        downloader.find("gguf")
        expect(watched.gw("get-repo")).to_have_count(2)
        repo = downloader.open(REPO)
        first = repo.locator('[data-gw="get-version"]').first
        expect(first).to_contain_text("Q4_K_M")
        expect(first).to_contain_text("4 bits: the usual choice · 6")
        expect(first).to_contain_text("fits this computer")
        expect(first).to_contain_text("With its companion for images")
        expect(first.locator("button")).to_have_class(re.compile("gw-primary"))

        hub.fault(where="cdn", pace_s=0.02, times=9)
        downloader.fetch("Q4_K_M")
        downloader.fetch("Q8_0")
        waiting = downloader.wait_for("tiny-Q8_0.gguf", "waiting")
        expect(waiting).to_contain_text("Waits for its turn")
        downloader.wait_past(FILE, 20)
        bar = downloader.row(FILE).get_by_role("progressbar", name=FILE)
        expect(bar).to_have_attribute(
            "aria-valuetext",
            re.compile(r"^\d+%, [\d.]+( .B)? of 6\s?MB · [\d.]+\s.B/s · about \d+\ss"),
        )
        expect(first.locator('[data-gw="get-state"]')).to_have_text(re.compile(r"^\d+%$"))
        sound(watched)
        downloader.press(FILE, "pause")
        downloader.wait_for(FILE, "paused")
        kept = part(home).stat().st_size
        assert kept > 0.2 * len(DATA)
        downloader.wait_for("tiny-Q8_0.gguf", "done")  # the next one takes its turn

        hub.mend()
        hub.fault(where="cdn", pace_s=0.02, times=9)
        hub.requests.clear()
        downloader.press(FILE, "go-on")
        downloader.wait_past(FILE, 50)
        assert hub.asked("cdn")[0].headers["range"] == f"bytes={kept}-"
        # Cancel asks once; Esc keeps the download, which goes on meanwhile.
        downloader.press(FILE, "cancel")
        ask = downloader.row(FILE).locator('[data-gw="get-ask"]')
        expect(ask).to_contain_text("that have arrived?")
        sound(watched)
        watched.page.keyboard.press("Escape")
        expect(ask).to_be_hidden()
        expect(downloader.row(FILE).locator('[data-gw="get-cancel"]')).to_be_focused()
        downloader.press(FILE, "cancel")
        downloader.row(FILE).locator('[data-gw="get-confirm"]').click()
        expect(downloader.row(FILE)).to_have_count(0)
        wait_until(lambda: not part(home).exists(), 20, "what arrived is removed")

        hub.mend()
        downloader.fetch("Q4_K_M")
        done = downloader.wait_for(FILE, "done")
        expect(done).to_contain_text("it is in the list of models now")
        expect(first.locator('[data-gw="get-state"]')).to_have_text("Here already")
        expect(first.locator('[data-gw="get-download"]')).to_be_hidden()
        assert (home.models / REPO / FILE).read_bytes() == DATA
        assert files_below(home.models) == {
            f"{REPO}/{name}" for name in (FILE, "tiny-Q8_0.gguf", "mmproj-F16.gguf")
        }
        downloader.press(FILE, "dismiss")
        expect(downloader.row(FILE)).to_have_count(0)
        quiet(watched)


def test_what_a_hub_may_do_is_a_sentence_and_a_way_out(
    home: Home, hub: HubServer, open_page: OpenPage
) -> None:
    wrong = hashlib.sha256(b"another").hexdigest()
    lied = {"lies-Q4_K_M.gguf": model_file(500_000, seed=4)}
    hub.add("owner/lies-GGUF", lied, lies={"lies-Q4_K_M.gguf": {"oid": wrong, "sha256": wrong}})
    hub.add("owner/gated-GGUF", {"gated-Q4_K_M.gguf": SMALL}, gated="manual", token=TOKEN)
    huge = {"size": 1 << 49}
    hub.add("owner/huge-GGUF", {"huge-Q4_K_M.gguf": SMALL}, lies={"huge-Q4_K_M.gguf": huge})
    with serve(home) as server:
        watched = open_page(server.url)
        downloader = Downloader(watched)
        downloader.wait_until_shown()

        # Cut in the middle: it goes on by itself, at the byte where it stopped.
        downloader.find(f"hf:{REPO}:Q4_K_M")
        version = watched.gw("get-version").first
        expect(version).to_contain_text("you asked for this")
        hub.fault(where="cdn", cut_after=2_000_001)
        downloader.fetch("Q4_K_M")
        downloader.wait_for(FILE, "done")
        ranges = [one.headers.get("range") for one in hub.asked("cdn")]
        assert any(re.fullmatch(r"bytes=[1-9]\d*-", str(one)) for one in ranges), ranges
        assert (home.models / REPO / FILE).read_bytes() == DATA

        # Too busy, in the search and in a download.
        hub.fault(where="api", match="search=", status=429, headers={"Retry-After": "900"})
        downloader.find("gguf")
        error = watched.gw("get-error")
        expect(error).to_contain_text("The server is busy")
        expect(error).to_contain_text("left alone for 15 min")
        error.locator('[data-gw="get-again"]').click()
        expect(watched.gw("get-repo")).to_have_count(4)
        downloader.find(f"hf:{REPO}:Q8_0")
        hub.fault(where="cdn", status=429, headers={"Retry-After": "900"}, times=2)
        downloader.fetch("Q8_0")
        downloader.wait_for("tiny-Q8_0.gguf", "failed")
        expect(downloader.error("tiny-Q8_0.gguf")).to_contain_text("left alone for 15 min")
        hub.mend()
        downloader.press("tiny-Q8_0.gguf", "again")
        downloader.wait_for("tiny-Q8_0.gguf", "done")

        # Not for everyone, until one has logged in.
        downloader.find("hf:owner/gated-GGUF")
        repo = watched.gw("get-repo", name="owner/gated-GGUF")
        expect(repo).to_contain_text("asks for conditions first")
        expect(repo).to_contain_text("accept the conditions on its page")
        downloader.fetch("Q4_K_M")
        downloader.wait_for("gated-Q4_K_M.gguf", "failed")
        error = downloader.error("gated-Q4_K_M.gguf")
        expect(error.locator('[data-gw="get-command"]')).to_contain_text("hf auth login")
        page_link = error.locator('[data-gw="get-page"]')
        expect(page_link).to_have_attribute("href", f"{hub.url}/owner/gated-GGUF")
        expect(page_link).to_have_attribute("rel", "noopener noreferrer")
        (home.folder / "hf").mkdir(exist_ok=True)
        (home.folder / "hf" / "token").write_text(TOKEN)
        downloader.press("gated-Q4_K_M.gguf", "again")
        downloader.wait_for("gated-Q4_K_M.gguf", "done")

        # Not what was promised, and more than there is room for.
        downloader.find("hf:owner/lies-GGUF")
        downloader.fetch("Q4_K_M")
        downloader.wait_for("lies-Q4_K_M.gguf", "failed")
        error = downloader.error("lies-Q4_K_M.gguf")
        expect(error).to_contain_text(re.compile("not the file that was promised", re.IGNORECASE))
        downloader.find("hf:owner/huge-GGUF")
        expect(watched.gw("get-version").first).to_contain_text("too large")
        downloader.fetch("Q4_K_M")
        downloader.wait_for("huge-Q4_K_M.gguf", "failed")
        expect(downloader.error("huge-Q4_K_M.gguf")).to_contain_text("Not enough room on the disk")
        assert not [name for name in files_below(home.models) if "lies" in name or "huge" in name]

        sound(watched)
        # A hub that has gone.
        for one in hub._servers.values():
            one.stop()
        downloader.find("other")
        expect(watched.gw("get-error").first).to_contain_text("No connection", timeout=2 * LONG_MS)
        quiet(watched)


def test_addresses_with_and_without_a_checksum(
    home: Home, hub: HubServer, open_page: OpenPage
) -> None:
    url = hub.page("/files/web-Q4_K_M.gguf", DATA) + "?key=secret"
    with serve(home) as server:
        watched = open_page(server.url)
        downloader = Downloader(watched)
        downloader.wait_until_shown()
        downloader.input.fill("http://example.org/x.gguf")
        expect(watched.gw("get-hint")).to_contain_text("Use https")
        downloader.input.fill(url)
        expect(watched.gw("get-hint")).to_contain_text("An address on 127.0.0.1")
        expect(watched.gw("get-search")).to_have_text("Look")
        downloader.input.press("Enter")
        card = watched.gw("get-address", name="web-Q4_K_M.gguf")
        expect(card).to_contain_text("6 MB · fits this computer")
        field = card.locator('[data-gw="get-sha256"]')
        field.fill("abc")
        field.press("Enter")
        expect(card.locator('[data-gw="get-sha256-error"]')).to_contain_text("is no SHA-256")
        expect(field).to_be_focused()
        field.fill("0" * 64)
        field.press("Enter")
        downloader.wait_for("web-Q4_K_M.gguf", "failed")
        error = downloader.error("web-Q4_K_M.gguf")
        expect(error).to_contain_text("This is not the file that was promised")
        assert files_below(home.models) == set()
        field.fill(hashlib.sha256(DATA).hexdigest())
        card.locator('[data-gw="get-download"]').click()
        downloader.wait_for("web-Q4_K_M.gguf", "done")
        expect(card).to_contain_text("Here already")
        sound(watched)
        assert (home.models / "web-Q4_K_M.gguf").read_bytes() == DATA

        downloader.find(hub.page("/page", b"<html>hello</html>" * 20))
        expect(watched.gw("get-error").first).to_contain_text("not a model")
        quiet(watched)


def test_everything_by_the_keyboard_in_a_narrow_frame(
    home: Home, hub: HubServer, open_page: OpenPage
) -> None:
    with serve(home, "dark") as server:
        watched = open_page(server.url, width=300, height=800)
        downloader = Downloader(watched)
        downloader.wait_until_shown()
        keyboard = watched.page.keyboard
        keyboard.press("Tab")
        expect(downloader.input).to_be_focused()
        keyboard.type("gguf")
        keyboard.press("Enter")
        head = watched.gw("get-open")
        expect(head).to_have_count(1)
        keyboard.press("Tab")
        expect(watched.gw("get-search")).to_be_focused()
        keyboard.press("Tab")
        if not head.evaluate("e => e === document.activeElement"):
            keyboard.press("Tab")  # Chromium lets a list that scrolls be reached, too
        expect(head).to_be_focused()
        keyboard.press("Enter")
        watched.gw("get-version").first.wait_for()
        expect(head).to_be_focused()
        expect(head).to_have_attribute("aria-expanded", "true")
        sound(watched)
        hub.fault(where="cdn", pace_s=0.02, times=9)
        keyboard.press("Tab")
        expect(watched.gw("get-version").first.locator("button")).to_be_focused()
        keyboard.press("Enter")
        downloader.wait_past(FILE, 5)
        # The button is gone; the focus is where it was, and Esc folds what is open.
        expect(watched.gw("get-version").first.locator('[data-gw="get-state"]')).to_be_focused()
        keyboard.press("Escape")
        expect(head).to_be_focused()
        expect(head).to_have_attribute("aria-expanded", "false")
        pause = downloader.row(FILE).locator('[data-gw="get-pause"]')
        for _ in range(3):
            keyboard.press("Tab")
            if pause.evaluate("e => e === document.activeElement"):
                break
        expect(pause).to_be_focused()
        expect(pause).to_have_attribute("aria-label", f"Pause: {FILE}")
        keyboard.press("Space")
        downloader.wait_for(FILE, "paused")
        expect(downloader.row(FILE).locator('[data-gw="get-go-on"]')).to_be_focused()
        keyboard.press("Tab")
        keyboard.press("Enter")
        expect(downloader.row(FILE).locator('[data-gw="get-keep"]')).to_be_focused()
        sound(watched)
        keyboard.press("Shift+Tab")
        keyboard.press("Enter")
        expect(downloader.row(FILE)).to_have_count(0)
        expect(downloader.input).to_be_focused()
        keyboard.press("Escape")
        expect(watched.gw("get-empty")).to_be_visible()
        sound(watched)
        quiet(watched)


def test_where_the_hub_is_switched_off_addresses_still_work(
    home: Home, hub: HubServer, open_page: OpenPage
) -> None:
    home.environment["HF_HUB_OFFLINE"] = "1"
    with serve(home) as server:
        watched = open_page(server.url)
        downloader = Downloader(watched)
        downloader.wait_until_shown()
        expect(watched.gw("get-notice")).to_contain_text("HF_HUB_OFFLINE is set")
        downloader.find("gguf")
        expect(watched.gw("get-error")).to_contain_text("The hub is switched off here")
        downloader.find(hub.page("/web.gguf", SMALL))
        watched.gw("get-address").locator('[data-gw="get-download"]').click()
        downloader.wait_for("web.gguf", "done")
        assert not [one for one in hub.requests if one.where in ("api", "resolve")]
        quiet(watched)


def test_where_the_hubs_library_is_missing_its_install_line_is_there(
    home: Home, hub: HubServer, open_page: OpenPage
) -> None:
    missing = 'import sys\n\nsys.modules["huggingface_hub"] = None\n'
    with serve(home, "dark", missing) as server:
        watched = open_page(server.url, permissions=["clipboard-read", "clipboard-write"])
        downloader = Downloader(watched)
        downloader.wait_until_shown()
        notice = watched.gw("get-notice")
        expect(notice).to_contain_text('pip install "gguf-widgets[download]"')
        notice.locator('[data-gw="get-copy"]').click()
        expect(notice.locator(".gw-copied")).to_have_count(1)
        copied = watched.page.evaluate("navigator.clipboard.readText()")
        assert copied == 'pip install "gguf-widgets[download]"'
        downloader.find("gguf")
        expect(watched.gw("get-error")).to_contain_text("A package is missing")
        sound(watched)
        downloader.find(hub.page("/web.gguf", SMALL))
        watched.gw("get-address").locator('[data-gw="get-download"]').click()
        downloader.wait_for("web.gguf", "done")
        quiet(watched)


def test_a_new_page_shows_what_the_old_one_fetches_and_takes_it_over_when_that_has_ended(
    home: Home, hub: HubServer, open_page: OpenPage
) -> None:
    with serve(home) as server:
        first = Downloader(open_page(server.url))
        first.wait_until_shown()
        first.find(f"hf:{REPO}")
        first.watched.gw("get-version", quant="Q4_K_M").wait_for(timeout=LONG_MS)
        hub.fault(where="cdn", pace_s=0.1, times=9)
        first.fetch("Q4_K_M")
        first.wait_past(FILE, 10)
        second = Downloader(open_page(server.url))  # in Voila each page has a kernel of its own
        left = second.watched.gw("get-left-row", name=FILE)
        expect(left).to_contain_text("another page or program fetches it", timeout=LONG_MS)
        expect(left.locator("button")).to_have_count(0)
        sound(second.watched)
        before = left.locator('[data-gw="get-phrase"]').inner_text()
        expect(left.locator('[data-gw="get-phrase"]')).not_to_have_text(before)
        first.press(FILE, "pause")
        left.locator('[data-gw="get-go-on"]').wait_for(timeout=LONG_MS)
        hub.mend()
        left.locator('[data-gw="get-go-on"]').click()
        second.wait_for(FILE, "done")
        assert (home.models / REPO / FILE).read_bytes() == DATA
        # The first page's own is found to be here.
        first.press(FILE, "go-on")
        expect(first.wait_for(FILE, "done")).to_contain_text("It was here already")
        quiet(second.watched)


def test_lab_a_page_that_is_loaded_again_shows_what_is_under_way_and_a_new_kernel_goes_on(
    home: Home, hub: HubServer, open_page: OpenPage
) -> None:
    folder = home.folder / "notebooks"
    folder.mkdir()
    notebook(folder)
    hub.add("owner/big-GGUF", split_files("big-Q8_0", 3))
    with lab(home, folder) as server:
        watched = open_page(server.url.split("/lab")[0] + "/lab/tree/download.ipynb")
        # JupyterLab says in dialogs that a kernel has gone.
        watched.page.add_locator_handler(
            watched.page.locator(".jp-Dialog"),
            lambda dialog: dialog.locator("button.jp-mod-accept").first.click(),
        )
        downloader = Downloader(watched)
        run_cell(watched)
        downloader.wait_until_shown()
        downloader.find("gguf")
        downloader.open(REPO)
        hub.fault(where="cdn", pace_s=0.03, times=9)
        downloader.fetch("Q4_K_M")
        downloader.wait_past(FILE, 10)
        save(watched)
        reload(watched, downloader.row(FILE))  # JupyterLab draws the same widget again
        expect(watched.gw("get-version").first).to_be_visible()  # with what was open in it
        expect(downloader.input).to_have_value("gguf")
        assert downloader.percent(FILE) >= 10
        before = downloader.percent(FILE)
        downloader.wait_past(FILE, min(95, before + 5))  # it has never stopped

        for kernel in home.kernels():
            kernel.kill()
        watched.gw("downloader").get_by_text("Python does not answer").wait_for(timeout=LONG_MS)
        kept = part(home).stat().st_size
        assert kept > 0
        wait_until(lambda: len(home.kernels()) == 1, 60, "JupyterLab starts a new kernel")
        hub.mend()
        hub.requests.clear()
        run_cell(watched)
        left = watched.gw("get-left-row", name=FILE)
        left.wait_for(timeout=LONG_MS)
        expect(left).to_contain_text("stopped")
        sound(watched)
        left.locator('[data-gw="get-go-on"]').click()
        downloader.wait_for(FILE, "done")
        assert re.fullmatch(r"bytes=[1-9]\d*-", hub.asked("cdn")[0].headers["range"])
        assert (home.models / REPO / FILE).read_bytes() == DATA
        quiet(watched)
