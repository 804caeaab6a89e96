"""The wheel in a clean environment: the installed command serves a page where the model answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.browser import Chat, Watched
from support.servers import Home, Server
from support.wheel import switches


def test_the_installed_command_opens_a_page_and_the_demo_model_answers(
    clean_python: Path, tmp_path: Path, open_page: Callable[..., Watched]
) -> None:
    inside = clean_python.parent.parent
    command = [str(inside / "bin" / "gguf-widgets"), "dashboard", "--port", "0", "--no-browser"]
    home = Home(tmp_path / "person", **switches())
    try:
        with Server(home, command, "Open http", python=clean_python) as server:
            watched = open_page(server.url)
            chat = Chat(watched)
            chat.load_demo()
            answer = chat.ask("Hello")
            assert chat.wait_for_status(answer, "complete") == "complete"
            assert answer.locator(".gw-body").inner_text().strip()

            # The page's kernel and the model's process run from the wheel as well.
            (kernel,), (worker,) = home.kernels(), home.workers()
            for process in (kernel, worker):
                assert Path(process.cmdline()[0]).is_relative_to(inside)
                assert not process.environ().get("PYTHONPATH")
            watched.assert_clean()
    finally:
        home.close()
