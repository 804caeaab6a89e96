"""A server that means harm: what it says, and how long it takes, costs a clear sentence at most."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.hub_files import files_below, model_file
from support.hub_server import HubServer

from gguf_widgets.core import download
from gguf_widgets.core.download import remote, transfer
from gguf_widgets.core.download.record import LEFT_FREE_BYTES, Place
from tests.core.download.conftest import QUICK

DATA = model_file()


def cut_off(server: HubServer, person: Any, address: str, **more: Any) -> None:
    server.fault(where="web", cut_after=1_000_000, **more)
    server.fault(where="web", status=503, times=50)
    person.refused("server_busy", address)
    server.mend()
    server.requests.clear()


@pytest.mark.parametrize("tag", ['"\xe9"', '"' + "x" * 5000 + '"', '"a\tb"', "\xff\xfe"])
def test_tags_that_cannot_be_sent_back_are_not(
    server: HubServer, person: Any, models: Path, tag: str
) -> None:
    address = server.page("/tiny.gguf", DATA, ETag=tag, Last_Modified="\xe9" * 50)
    cut_off(server, person, address)
    assert Place(models, models / "tiny.gguf").read_arriving().etag in ("", tag)
    assert person.get(address).path.read_bytes() == DATA
    assert all(one.headers.get("if-range", "").isascii() for one in server.requests)


def test_a_part_that_lies_behind_the_end_is_refused(
    server: HubServer, person: Any, models: Path
) -> None:
    address = server.page("/tiny.gguf", DATA)
    cut_off(server, person, address, chunked=True)
    server.fault(where="web", total=500_000)
    error = person.refused("server", address)
    assert "behind its end" in error.message
    assert not (models / "tiny.gguf").exists()
    assert person.get(address).path.read_bytes() == DATA


def test_a_file_without_an_end_does_not_fill_the_disk(
    server: HubServer, person: Any, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.page("/tiny.gguf", DATA)
    monkeypatch.setattr(transfer, "_LOOK_EVERY", 1 << 18)
    usage = shutil.disk_usage(models.parent)
    part = models / ".downloads" / "tiny.gguf.part"

    def shrinking(_: Any) -> Any:
        have = part.stat().st_size if part.exists() else 0
        return usage._replace(free=LEFT_FREE_BYTES + 1_500_000 - have)

    monkeypatch.setattr(shutil, "disk_usage", shrinking)
    server.fault(where="web", chunked=True)
    error = person.refused("no_space", address)
    assert error.details["free_bytes"] < LEFT_FREE_BYTES
    assert 1_500_000 <= part.stat().st_size < 2_000_000  # and what has arrived is kept
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert person.get(address).path.read_bytes() == DATA


def test_a_server_that_drips_is_left_after_a_time(
    server: HubServer, person: Any, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.page("/tiny.gguf", DATA)
    monkeypatch.setattr(transfer, "_TOO_SLOW_S", 0.2)
    server.fault(where="web", pace_s=0.15, times=50)
    error = person.refused("unreachable", address)
    assert "did not answer in time" in error.message
    assert len(server.asked("web")) == QUICK.tries
    server.mend()
    monkeypatch.setattr(transfer, "_TOO_SLOW_S", 600.0)
    server.requests.clear()
    assert person.get(address).path.read_bytes() == DATA


def test_a_header_that_drips_is_judged_by_the_size_alone(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("owner/repo", {"tiny-Q4_K_M.gguf": DATA})
    monkeypatch.setattr(remote, "_LONGEST_S", 0.5)
    hub.fault(where="cdn", pace_s=0.1, times=50)
    (model,) = download.files("owner/repo", patience=QUICK).models
    assert model.fit.judged_by == "size"
    hub.mend()
    (model,) = download.files("owner/repo", patience=QUICK).models
    assert model.fit.judged_by == "header"


def test_a_repository_of_names_that_lead_out_is_told_in_one_sentence(
    hub: HubServer, person: Any, models: Path
) -> None:
    evil = {f"../{number}.gguf": b"x" for number in range(300)}
    hub.add("owner/repo", {**evil, "tiny-Q4_K_M.gguf": DATA})
    fetched = person.get("hf:owner/repo")
    assert len([note for note in fetched.notes if "left out" in note]) == 1
    assert "295 more" in fetched.notes[0]
    assert files_below(models) == {"owner/repo/tiny-Q4_K_M.gguf"}


def test_a_repository_that_is_called_like_a_device_has_a_folder_on_windows(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add("con/aux", {"tiny-Q4_K_M.gguf": DATA})
    path = person.get("hf:con/aux").path
    assert path.relative_to(models).parts == ("_con", "_aux", "tiny-Q4_K_M.gguf")
    assert download.find("hf:con/aux") == path
