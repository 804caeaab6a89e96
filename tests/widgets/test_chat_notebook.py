"""What a notebook keeps of a chat: the copy beside the live view, and Markdown in exports.

About 3 s.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import IPython.display
import pytest
from support.chat_fakes import WAIT_S, FakeModel

from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets import _chat_notebook
from gguf_widgets.widgets.chat_box import ChatBox


class Notebook:
    """The outputs of a notebook's cells, by their display ids."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outputs: list[tuple[str | None, dict[str, str]]] = []
        self._changed = threading.Condition()
        monkeypatch.setattr(IPython.display, "display", self._display)
        monkeypatch.setattr(IPython.display, "update_display", self._update)

    def _display(self, data: dict[str, str], *, display_id: str | None = None, **_: Any) -> None:
        self.outputs.append((display_id, data))

    def _update(self, data: dict[str, str], *, display_id: str, **_: Any) -> None:
        with self._changed:
            self.outputs = [
                (known, data if known == display_id else old) for known, old in self.outputs
            ]
            self._changed.notify_all()

    def wait(self, holds: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(holds, WAIT_S), self.outputs


def test_the_copy_follows_the_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook(monkeypatch)
    with Store.in_memory() as store:
        chat = ChatInterface(FakeModel(["**Hi** <b>there</b>"]), store=store)
        box = ChatBox(chat=chat)
        box._ipython_display_()
        box._ipython_display_()
        (_, view), (first, copy), (_, _), (second, _) = notebook.outputs
        assert view["text/html"] == ""  # where there is no view, the copy below it is all
        assert _chat_notebook._VIEW in view
        assert first != second
        assert copy["text/html"].endswith(f'data-gw-static="{box.model_id}"></div>')
        chat.send("Hello")
        notebook.wait(lambda: "Hi" in notebook.outputs[3][1]["text/html"])
        for _, data in (notebook.outputs[1], notebook.outputs[3]):
            assert "<strong>Hi</strong> &lt;b&gt;there" in data["text/html"]
        monkeypatch.setattr(_chat_notebook, "_MAX_BYTES", 100)
        chat.title = "Another name"
        chat.clear()
        notebook.wait(lambda: "Hi" not in notebook.outputs[3][1]["text/html"])
        chat.undo()
        notebook.wait(lambda: "too long to be kept" in notebook.outputs[3][1]["text/html"])
        box.close()
        chat.close()


def test_in_voila_there_is_only_the_live_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5.13")
    notebook = Notebook(monkeypatch)
    with Store.in_memory() as store:
        box = ChatBox(chat=ChatInterface(store=store))
        box._ipython_display_()
        assert len(notebook.outputs) == 1
        box.chat.close()
        box.close()


def test_a_script_exports_rendered_markdown_without_loading_a_widget(tmp_path: Path) -> None:
    code = (
        "import sys, gguf_widgets as gw, gguf_widgets.core.store.store as s\n"
        "store = s.Store.in_memory()\n"
        'open(\'a.json\', \'w\').write(\'[{"role": "assistant", "content": "**Hi**"}]\')\n'
        "chat = gw.ChatInterface.load_file('a.json', store=store)\n"
        "assert '<strong>Hi</strong>' in chat.export('html')\n"
        "assert 'anywidget' not in sys.modules and 'ipywidgets' not in sys.modules\n"
        "print(chat.save('a.html').name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "GGUF_WIDGETS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (done.stdout.strip(), done.stderr) == ("a.html", "")
