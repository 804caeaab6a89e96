"""`load` takes a name of the hub: what is not here is fetched first, and then it is here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub_server import HubServer

from gguf_widgets.core.errors import DownloadError, LoadCancelledError, ModelNotFoundError
from gguf_widgets.core.library import ModelLibrary
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.demo import demo_model_path

NAME = "hf:emma/small:Q8_0"


@pytest.fixture
def manager() -> Iterator[ModelManager]:
    with ModelManager(keep_alive=0) as manager:
        yield manager
        for model in manager.loaded():
            model.unload()


def test_a_model_of_the_hub_is_fetched_loaded_and_found_again(
    hub: HubServer, manager: ModelManager, models: Path
) -> None:
    data = demo_model_path().read_bytes()
    hub.add("emma/small", {"small-Q8_0.gguf": data, "small-F16.gguf": data})
    assert not manager.is_running(NAME)
    with pytest.raises(ModelNotFoundError, match="gguf-widgets get hf:emma/small:Q8_0"):
        ModelLibrary().resolve(NAME)
    phrases: list[str] = []
    model = manager.load(NAME, on_progress=lambda _fraction, phrase: phrases.append(phrase))
    assert model.path == models / "emma" / "small" / "small-Q8_0.gguf"
    assert model.path.read_bytes() == data
    assert len(set(phrases)) > 1
    assert model.chat("Hello", max_tokens=3, temperature=0).usage.num_completion_tokens > 0
    # It is here now: under its address, in the list, and without the network.
    asked = len(hub.requests)
    assert ModelLibrary().resolve(NAME) == model.path
    assert model.path in {entry.path for entry in ModelLibrary().entries()}
    assert manager.load(NAME) is model
    assert manager.is_running(NAME)
    assert len(hub.requests) == asked


def test_it_can_be_stopped_and_what_there_is_not_is_said(
    hub: HubServer, manager: ModelManager, models: Path
) -> None:
    hub.add("emma/small", {"small-Q8_0.gguf": demo_model_path().read_bytes()})
    with pytest.raises(LoadCancelledError):
        manager.load(NAME, on_progress=lambda _fraction, _phrase: False)
    with pytest.raises(DownloadError) as caught:
        manager.load("hf:emma/small:Q2_K")
    assert caught.value.details["problem"] == "no_such_quantization"
    assert manager.loaded() == []
    assert not list(models.rglob("*.gguf"))
