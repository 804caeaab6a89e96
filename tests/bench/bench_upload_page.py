"""MiB/s of an upload from a real browser, over HTTP and over comms, to its name.

    python tests/bench/bench_upload_page.py [--rounds 3] [--mib 512] [--quick]

A person's way, whole: `ModelUploader` on a page in Chromium, a file of random bytes behind a true
header is chosen there, and the clock runs until its row says that it is done (read by the browser,
sent, checked, SHA-256, synced, named). Three pages take turns: Voila's with the server's own HTTP
route (as in the dashboard), the same with pieces as comm messages (a folder of its own, which is
not the route's), and JupyterLab's, which has comms only. The first is what the others stand beside.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, expect, sync_playwright

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from bench.harness import options, read_options  # noqa: E402 - the path comes first
from bench.results import Finding, Results  # noqa: E402
from support.browser import LONG_MS, Watched, launch  # noqa: E402
from support.model_bytes import write_model  # noqa: E402
from support.servers import Home, Server, lab  # noqa: E402

MIB = 1 << 20
NAME = "m.gguf"
HTTP, VOILA, LAB = "Voila, over HTTP", "Voila, over comms", "JupyterLab, over comms"
SERVE = (
    "import sys; from pathlib import Path;"
    "from gguf_widgets.dashboard.app import DashboardOptions, serve;"
    "serve(DashboardOptions(notebook=Path(sys.argv[1]), open_browser=False, port=0))"
)


def notebook(path: Path, folder: Path | None) -> Path:
    """Write a notebook that shows the widget, for the usual folder or one of its own."""
    argument = "" if folder is None else repr(str(folder))
    cell = nbformat.v4.new_code_cell(f"import gguf_widgets as gw\n\ngw.ModelUploader({argument})")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
    return path


class Page:
    """One page with the widget; `folder` is where its files arrive."""

    def __init__(self, browser: Browser, url: str, folder: Path) -> None:
        self.folder = folder
        self.watched = Watched(browser, viewport={"width": 1000, "height": 800})
        self.watched.page.goto(url, wait_until="commit")

    def run_cell(self) -> None:
        """Run the notebook's only cell, where that does not happen by itself."""
        page = self.watched.page
        expect(page.get_by_text("| Idle")).to_be_visible(timeout=LONG_MS)
        page.locator(".jp-NotebookPanel .jp-CodeCell .jp-InputArea-editor").first.click()
        page.keyboard.press("Control+Enter")

    def upload(self, source: Path, timeout_s: float) -> float:
        """Upload a file, take it off the disk and the list again, and return the seconds."""
        watched = self.watched
        drop = watched.gw("upload-drop")
        expect(drop).to_contain_text("room for", timeout=LONG_MS)
        with watched.page.expect_file_chooser() as chooser:
            drop.click()
        row = watched.gw("upload-row", name=source.name)
        start = time.perf_counter()
        chooser.value.set_files(source)
        expect(row).to_have_attribute("data-state", "done", timeout=timeout_s * 1000)
        clock = time.perf_counter() - start
        (self.folder / source.name).unlink()
        row.locator('[data-gw="upload-dismiss"]').click()
        expect(row).to_have_count(0)
        return clock


@contextlib.contextmanager
def pages(folder: Path) -> Iterator[dict[str, Page]]:
    """Open the three pages."""
    home = Home(folder / "home")
    apart, notebooks = folder / "apart", folder / "notebooks"
    notebooks.mkdir()
    notebook(notebooks / "upload.ipynb", None)
    with contextlib.ExitStack() as stack:
        stack.callback(home.close)
        servers = {
            HTTP: (notebook(folder / "http.ipynb", None), home.models),
            VOILA: (notebook(folder / "comms.ipynb", apart), apart),
        }
        browser = launch(stack.enter_context(sync_playwright()))
        stack.callback(browser.close)
        opened = {}
        for name, (path, target) in servers.items():
            server = stack.enter_context(Server(home, ["-c", SERVE, str(path)], "Open http"))
            opened[name] = Page(browser, server.url, target)
        address = stack.enter_context(lab(home, notebooks)).url.split("/lab")[0]
        opened[LAB] = Page(browser, f"{address}/lab/tree/upload.ipynb", home.models)
        opened[LAB].run_cell()
        yield opened


def main() -> int:
    parser = options(__doc__, rounds=3)
    parser.add_argument("--mib", type=int, default=512, help="size of the file")
    chosen = read_options(parser)
    if chosen.quick:
        chosen.mib = min(chosen.mib, 128)
    if chosen.tiny:
        chosen.mib = 4
    conditions = f"a file of {chosen.mib} MiB chosen in Chromium, {chosen.rounds} rounds"
    results = Results("upload_page", chosen, conditions)
    taken: dict[str, list[float]] = {HTTP: [], VOILA: [], LAB: []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = folder / NAME
        write_model(source, chosen.mib * MIB)
        with pages(folder) as opened:
            for number in range(-1, chosen.rounds):
                names = list(opened)
                first = number % len(names)
                for name in names[first:] + names[:first]:
                    clock = opened[name].upload(source, timeout_s=60 + chosen.mib)
                    if number >= 0:  # the first is not measured: what is imported late comes then
                        taken[name].append(clock)

    speeds = {name: chosen.mib / statistics.median(clocks) for name, clocks in taken.items()}
    for name, speed in speeds.items():
        spread = ", ".join(f"{chosen.mib / clock:.0f}" for clock in taken[name])
        print(f"{name:24} {speed:6.0f} MiB/s   ({spread})")
    results.add(
        Finding(
            what="from a page in Chromium over the dashboard's HTTP route",
            ours=f"{speeds[HTTP]:.0f} MiB/s",
            reading=f"{speeds[HTTP]:.0f} MiB/s",
        )
    )
    for name in (VOILA, LAB):
        share = statistics.median(
            http / comm for http, comm in zip(taken[HTTP], taken[name], strict=True)
        )
        results.add(
            Finding(
                what=f"from a page in Chromium over comms, {name.partition(',')[0]}",
                ours=f"{speeds[name]:.0f} MiB/s",
                peer=f"over HTTP {speeds[HTTP]:.0f} MiB/s",
                reading=f"{share:.2f} times the speed of HTTP",
            )
        )
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
