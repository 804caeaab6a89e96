"""A model from a plain address: named, continued, checked, and refused where it should be."""

from __future__ import annotations

import hashlib
import random
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.hub_server import HubServer, files_below, http_date, model_file, split_files

from gguf_widgets.core import download
from gguf_widgets.core.download.record import Place
from gguf_widgets.core.errors import DownloadError, InvalidValueError, MissingDependencyError

DATA = model_file()
OTHER = model_file(seed=7)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def address(server: HubServer) -> str:
    return server.page("/files/tiny.gguf", DATA)


def interrupted(server: HubServer, person: Any, address: str, after: int = 1_000_000) -> None:
    """Leave a part of the file behind."""
    server.fault(where="web", cut_after=after)
    server.fault(where="web", status=503, times=50)
    person.refused("server_busy", address)
    server.mend()
    server.requests.clear()


def test_a_file_arrives_and_is_not_fetched_twice(
    server: HubServer, person: Any, models: Path, address: str
) -> None:
    fetched = person.get(address)
    assert fetched.path == models / "tiny.gguf"
    assert fetched.path.read_bytes() == DATA
    assert fetched.sha256 == DIGEST
    assert person.steps[-1].total_bytes == len(DATA)
    server.requests.clear()
    assert person.get(address).origin == "here"
    assert download.find(address) == fetched.path
    assert download.find(address + "?other") is None
    assert server.requests == []
    fetched.path.unlink()
    assert download.find(address) is None


def test_it_goes_on_where_it_stopped_with_the_very_same_file(
    server: HubServer, person: Any, address: str
) -> None:
    interrupted(server, person, address)
    assert person.get(address).path.read_bytes() == DATA
    (asked,) = server.asked("web")
    assert asked.headers["range"] == "bytes=1000000-"
    assert asked.headers["if-range"].startswith('"')


@pytest.mark.parametrize("etag", [None, 'W/"weak"', ""])
def test_a_file_that_has_changed_begins_anew_and_says_so(
    server: HubServer, person: Any, etag: str | None
) -> None:
    more = {} if etag is None else {"ETag": etag}
    address = server.page("/tiny.gguf", DATA, **more)
    interrupted(server, person, address)
    server.page("/tiny.gguf", OTHER, **({"Last-Modified": http_date(0)} | more))
    assert person.get(address).path.read_bytes() == OTHER
    assert any("has changed on its server" in note for note in person.notes)


def test_a_changed_file_of_a_server_that_does_not_know_if_range_is_found_out(
    server: HubServer, person: Any, address: str
) -> None:
    interrupted(server, person, address)
    server.page("/files/tiny.gguf", OTHER)
    server.fault(where="web", ignore_if_range=True, times=1)
    assert person.get(address).path.read_bytes() == OTHER
    assert any("has changed on its server" in note for note in person.notes)


def test_without_a_way_to_tell_the_same_file_nothing_is_continued(
    server: HubServer, person: Any, address: str
) -> None:
    server.fault(where="web", cut_after=1_000_000, no_validators=True)
    server.fault(where="web", status=503, times=50)
    person.refused("server_busy", address)
    server.mend()
    server.requests.clear()
    assert person.get(address).path.read_bytes() == DATA
    assert "range" not in server.asked("web")[0].headers
    assert any("no way to tell" in note for note in person.notes)


def test_a_checksum_is_a_way_to_tell(server: HubServer, person: Any, address: str) -> None:
    server.fault(where="web", cut_after=1_000_000, no_validators=True)
    server.fault(where="web", status=503, times=50)
    person.refused("server_busy", address, sha256=DIGEST)
    server.mend()
    server.requests.clear()
    server.fault(where="web", no_validators=True)
    assert person.get(address, sha256=DIGEST).path.read_bytes() == DATA
    assert server.asked("web")[0].headers["range"] == "bytes=1000000-"


def test_a_server_without_ranges_begins_anew_each_time(
    server: HubServer, person: Any, address: str
) -> None:
    interrupted(server, person, address)
    server.fault(where="web", no_ranges=True, cut_after=500_000)
    server.fault(where="web", no_ranges=True)
    assert person.get(address).path.read_bytes() == DATA
    assert sum("cannot go on in the middle" in note for note in person.notes) == 2


@pytest.mark.parametrize("etag", ['"x"', 'W/"x"', ""])
def test_a_file_without_a_length_is_whole_when_its_header_says_so(
    server: HubServer, person: Any, address: str, etag: str
) -> None:
    server.fault(where="web", chunked=True, etag=etag)
    assert person.get(address).path.read_bytes() == DATA
    assert person.steps[0].total_bytes is None


def test_a_file_without_a_length_that_is_cut_is_not_taken_for_whole(
    server: HubServer, person: Any, address: str
) -> None:
    server.fault(where="web", chunked=True, cut_after=1_000_000)
    assert person.get(address).path.read_bytes() == DATA
    server.page("/short.gguf", DATA[:-5000])
    server.fault(where="web", chunked=True)
    error = person.refused("not_a_model", f"{server.web_url}/short.gguf")
    assert "cut short" in error.message


@pytest.mark.parametrize("difference", [1000, 1])
def test_a_server_that_announces_more_than_it_sends_is_given_up(
    server: HubServer, person: Any, models: Path, address: str, difference: int
) -> None:
    server.fault(where="web", total=len(DATA) + difference, no_ranges=True, times=50)
    person.refused("unreachable", address)
    assert not (models / "tiny.gguf").exists()
    # Asked for the rest, another server says that there is none: then this is all of it.
    server.mend()
    server.fault(where="web", total=len(DATA) + difference)
    assert person.get(address).path.read_bytes() == DATA


def test_a_server_that_sends_more_than_it_announced_is_not_taken_at_its_word(
    server: HubServer, person: Any, models: Path, address: str
) -> None:
    server.fault(where="web", total=len(DATA) - 1000, times=50)
    error = person.refused("not_a_model", address)  # what was announced is too short to be one
    assert "cut short" in error.message
    assert files_below(models) == set()


def test_another_total_in_the_middle_is_a_change(
    server: HubServer, person: Any, address: str
) -> None:
    interrupted(server, person, address)
    server.fault(where="web", total=len(DATA) + 5)
    assert person.get(address).path.read_bytes() == DATA
    assert any("has changed on its server" in note for note in person.notes)


def test_an_answer_from_elsewhere_in_the_file_is_not_written(
    server: HubServer, person: Any, address: str
) -> None:
    interrupted(server, person, address)
    server.fault(where="web", shift=17)
    assert person.get(address).path.read_bytes() == DATA
    assert any("another part of the file" in note for note in person.notes)


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(
    server: HubServer, person: Any, models: Path, address: str
) -> None:
    error = person.refused("checksum", address, sha256="ab" * 32)
    assert error.details["sha256"] == DIGEST
    assert files_below(models) == set()
    assert person.get(address, sha256=DIGEST).sha256 == DIGEST


def test_a_file_of_that_name_from_elsewhere_is_never_overwritten(
    server: HubServer, person: Any, models: Path, tmp_path: Path, address: str
) -> None:
    models.mkdir(parents=True)
    (models / "tiny.gguf").write_bytes(OTHER)
    for newer in ("tell", "get", "ignore"):
        error = person.refused("name_taken", address, newer=newer)
        assert "--to" in error.message
    assert (models / "tiny.gguf").read_bytes() == OTHER
    assert person.get(address, to=tmp_path / "else").path == tmp_path / "else" / "tiny.gguf"
    # The very one is recognised by its checksum, and the newer one is fetched where it is ours.
    (models / "tiny.gguf").write_bytes(DATA)
    assert person.get(address, sha256=DIGEST).origin == "here"
    server.page("/files/tiny.gguf", OTHER)
    assert person.get(address).origin == "here"
    assert person.get(address, newer="get").path.read_bytes() == OTHER


def test_the_parts_of_a_split_model_come_together(
    server: HubServer, person: Any, models: Path
) -> None:
    parts = split_files("big model", 3)
    for name, data in parts.items():
        server.page(f"/d/{name}", data)
    address = f"{server.web_url}/d/big%20model-00002-of-00003.gguf?key=secret"
    fetched = person.get(address)
    assert [path.read_bytes() for path in fetched.files] == list(parts.values())
    assert all("key=secret" in one.path for one in server.asked("web"))
    assert "secret" not in repr(fetched)
    records = "".join(path.read_text() for path in models.rglob("*.json"))
    assert "secret" not in records
    with pytest.raises(InvalidValueError, match="3 files"):
        person.get(address, sha256=DIGEST)


def test_after_a_restart_of_the_machine_only_what_was_forced_to_the_disk_counts(
    server: HubServer, person: Any, models: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(server, person, address, after=2_000_000)
    place = Place(models, models / "tiny.gguf")
    record = place.read_arriving()
    assert record.synced_bytes == 2_000_000  # a download that ends in order leaves nothing unsaved
    place.write_arriving(
        msgspec.structs.replace(record, synced_bytes=500_000, boot_time=1.0, boot_id="another")
    )
    assert person.get(address).path.read_bytes() == DATA
    assert server.asked("web")[0].headers["range"] == "bytes=500000-"


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"version": 9}', b"\xff" * 100_000])
def test_a_damaged_record_costs_the_part_and_nothing_else(
    server: HubServer, person: Any, models: Path, address: str, damage: bytes
) -> None:
    interrupted(server, person, address)
    (models / ".downloads" / "tiny.gguf.part.json").write_bytes(damage)
    assert person.get(address).path.read_bytes() == DATA
    assert "range" not in server.asked("web")[0].headers


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_in_the_place_of_a_part_is_not_written_through(
    server: HubServer, person: Any, models: Path, address: str, tmp_path: Path
) -> None:
    victim = tmp_path / "letter.txt"
    victim.write_text("Dear Emma")
    (models / ".downloads").mkdir(parents=True)
    (models / ".downloads" / "tiny.gguf.part").symlink_to(victim)
    person.refused("disk", address)
    assert victim.read_text() == "Dear Emma"


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_on_the_way_the_file_is_the_right_one_or_not_there(
    server: HubServer, person: Any, models: Path, address: str, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    wrong = bytearray(DATA)
    wrong[chance.randrange(100, len(DATA))] ^= 1
    faults: list[dict[str, Any]] = [
        {"status": 503},
        {"status": 429, "headers": {"Retry-After": "0"}},
        {"no_ranges": True},
        {"no_validators": True},
        {"chunked": True},
        {"content": bytes(wrong)},
        {"content": DATA[:-1000]},
        {"content": DATA + b"more"},
        {"content": b"<html>"},
        {"total": len(DATA) + 7},
        {"shift": 3},
        {"ignore_if_range": True},
        {"etag": 'W/"weak"'},
        {"status": 416},
        {"status": 404},
    ]
    problems: set[str] = set()
    for _ in range(6):
        for _ in range(chance.randrange(4)):
            cut = chance.choice([None, chance.randrange(len(DATA))])
            server.fault(where="web", cut_after=cut, **chance.choice(faults))
        try:
            path = person.get(address, sha256=DIGEST).path
        except DownloadError as error:
            problems.add(error.details["problem"])
            assert not (models / "tiny.gguf").exists()
            continue
        assert path.read_bytes() == DATA
        path.unlink()
    assert problems <= {"not_found", "checksum", "not_gguf", "size", "server", "unreachable"}
    server.mend()
    assert person.get(address, sha256=DIGEST).path.read_bytes() == DATA


def test_a_full_disk_is_seen_before_and_in_the_middle(
    server: HubServer, person: Any, models: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.fault(where="web", total=1 << 50, cut_after=100)
    error = person.refused("no_space", address)
    assert error.details["needed_bytes"] == 1 << 50
    assert error.details["free_bytes"] > 0
    if sys.platform != "linux":
        return
    # A limit on the size of files is as near to a full disk as a test without root can come.
    import resource
    import signal

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, old[1]))
        assert "does not take a file" in person.refused("disk", address).message
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (models / ".downloads" / "tiny.gguf.part").stat().st_size == 1_000_000
    server.requests.clear()
    assert person.get(address).path.read_bytes() == DATA
    assert server.asked("web")[0].headers["range"] == "bytes=1000000-"


def test_a_folder_that_cannot_be_written_to_is_said(
    server: HubServer, person: Any, tmp_path: Path, address: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    error = person.refused("disk", address, to=tmp_path / "file")
    assert "cannot be written" in error.message


def test_a_file_much_longer_than_one_answer_may_be_comes_in_pieces(
    server: HubServer, person: Any, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gguf_widgets.core.download.transfer._LONGEST_ANSWER", 400_000)
    interrupted(server, person, address, after=300_000)
    assert person.get(address).path.read_bytes() == DATA
    ranges = [one.headers["range"] for one in server.asked("web")]
    assert ranges[:2] == ["bytes=300000-699999", "bytes=700000-1099999"]
    assert len(ranges) == 7


def test_without_httpx_the_error_says_what_to_install(
    person: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingDependencyError, match=r"httpx.*gguf-widgets\[download\]"):
        person.get("https://example.org/x.gguf")
