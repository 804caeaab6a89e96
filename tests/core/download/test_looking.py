"""Looking at an address, and searching, before anything is fetched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.hub_server import HubServer, files_below, model_file, projector_file, split_files

from gguf_widgets.core import download
from gguf_widgets.core.download.looking import hub_is_offline, look_at
from gguf_widgets.core.errors import DownloadError, InvalidValueError

from .conftest import QUICK

REPO = "owner/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"
DATA = model_file()
OTHER = model_file(400_000, seed=1)


def test_an_address_is_looked_at_before_it_is_fetched(hub: HubServer, models: Path) -> None:
    facts = look_at(hub.page("/x/tiny.gguf", DATA) + "?token=secret", patience=QUICK)
    assert (facts.file_name, facts.size_bytes, facts.num_files) == ("tiny.gguf", len(DATA), 1)
    assert facts.fit is not None
    assert facts.fit.verdict == "yes"
    assert "token=secret" not in repr(facts)
    assert facts.here is None
    sent = sum(1 for one in hub.asked("web"))
    assert sent == 2  # its size, and its beginning
    assert files_below(models) == set()

    url = hub.page("/get", OTHER, Content_Disposition='attachment; filename="../named.gguf"')
    assert look_at(url, patience=QUICK).file_name == "named.gguf"
    download.fetch(url, patience=QUICK)
    assert look_at(url, patience=QUICK).here == models / "named.gguf"

    parts = split_files("big", 3)
    for name, data in parts.items():
        url = hub.page(f"/{name}", data)
    facts = look_at(url, patience=QUICK)
    assert (facts.num_files, facts.size_bytes) == (3, sum(map(len, parts.values())))
    assert facts.file_name == "big-00001-of-00003.gguf"


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"<html>no model</html>" * 9, "not_a_model"), (projector_file(), "not_a_model")],
)
def test_an_address_of_something_else_is_refused_when_it_is_looked_at(
    hub: HubServer, data: bytes, problem: str
) -> None:
    with pytest.raises(DownloadError, match="Nothing was fetched") as caught:
        look_at(hub.page("/x.gguf", data), patience=QUICK)
    assert caught.value.details["problem"] == problem


def test_an_address_whose_size_is_not_said_is_still_told_apart(hub: HubServer) -> None:
    hub.fault(where="web", no_ranges=True, chunked=True)
    facts = look_at(hub.page("/x.gguf", OTHER), patience=QUICK)
    assert (facts.size_bytes, facts.fit) == (None, None)
    with pytest.raises(DownloadError, match="no such file"):
        look_at(hub.web_url + "/nothing.gguf", patience=QUICK)
    with pytest.raises(InvalidValueError, match="is no web address"):
        look_at("hf:owner/repo", patience=QUICK)


def test_a_search_does_not_wait_for_as_long_as_a_busy_hub_says(hub: HubServer) -> None:
    hub.add(REPO, {FILE: OTHER})
    hub.fault(where="api", match="search=", status=429, headers={"Retry-After": "900"})
    with pytest.raises(DownloadError, match="left alone for 15 min") as caught:
        download.search("tiny", patience=QUICK)
    assert caught.value.details["problem"] == "server_busy"
    assert [found.name for found in download.search("tiny", patience=QUICK)] == [REPO]


def test_whether_the_hub_is_switched_off_is_known_without_its_library(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    assert not hub_is_offline()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert hub_is_offline()
    monkeypatch.delitem(sys.modules, "huggingface_hub.constants")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert not hub_is_offline()
    monkeypatch.setenv("HF_HUB_OFFLINE", "yes")
    assert hub_is_offline()
