"""Fixtures of the download's tests: a hub of their own, and huggingface_hub set up to use it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import pytest
from support.hub_server import HubServer

from gguf_widgets.core import download
from gguf_widgets.core.config import models_dir
from gguf_widgets.core.download import Patience, Progress
from gguf_widgets.core.download.from_hub import Fetched
from gguf_widgets.core.errors import DownloadError

# Quick to give up, so that a test of many failures takes a second.
QUICK = Patience(
    connect_s=5, read_s=5, tries=6, first_wait_s=0.01, longest_wait_s=0.05, longest_retry_after_s=3
)


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as hub:
        yield hub


@pytest.fixture
def hub(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Set what HF_ENDPOINT, HF_HOME and so on would set; the library reads those only once.

    That the variables themselves count is shown where a process of its own starts with them
    (tests/test_cli_get.py).
    """
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        server.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "hf" / "tokens"))
    # Newer ones only: asked of the hub once a day, and kept there.
    monkeypatch.setattr(
        constants, "AGENT_HARNESSES_PATH", str(tmp_path / "hf" / "agents.json"), raising=False
    )
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield server
    # Questions that were given up are waited for in the background; here they end before the
    # sockets are counted.
    server.hang_up()
    for thread in threading.enumerate():
        if thread.name.startswith("gguf-widgets"):
            thread.join(30)
            assert not thread.is_alive(), thread.name
    huggingface_hub.close_session()


class Person:
    """Gets models with little patience, and remembers what was said.

    Attributes
    ----------
    notes : list of str
        What was said during the last call.
    steps : list of Progress
        What was shown during it.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[Progress] = []

    def get(self, name: str, **options: Any) -> Fetched:
        self.notes.clear()
        self.steps.clear()
        options = {"patience": QUICK, "on_progress": self.steps.append} | options
        return download.download(name, on_note=self.notes.append, **options)

    def refused(self, problem: str, name: str, **options: Any) -> DownloadError:
        """Get it in vain, for that reason."""
        with pytest.raises(DownloadError) as caught:
            self.get(name, **options)
        assert caught.value.details.get("problem") == problem, caught.value.message
        assert caught.value.message.isprintable()
        assert "secret" not in caught.value.message + repr(caught.value.details)
        return caught.value


@pytest.fixture
def person() -> Person:
    return Person()


@pytest.fixture
def models() -> Path:
    """Return the models folder, which nobody has made yet."""
    return models_dir()
