"""A model of the hub, from its name to a file that can be loaded: what is asked, kept, refused."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
from support.gguf_writer import Typed, gguf_bytes, model_bytes
from support.hub_server import (
    HubServer,
    files_below,
    model_file,
    projector_file,
    split_files,
)

from gguf_widgets.core import download
from gguf_widgets.core.errors import DownloadError, InvalidValueError, MissingDependencyError
from gguf_widgets.core.gguf import read_header

REPO = "owner/tiny-GGUF"
NAME = f"hf:{REPO}:Q4_K_M"
FILE = "tiny-Q4_K_M.gguf"
DATA = model_file()


def test_a_model_arrives_whole_under_its_own_name_and_says_where_it_came_from(
    hub: HubServer, person: Any, models: Path
) -> None:
    repo = hub.add(REPO, {FILE: DATA, "tiny-Q8_0.gguf": model_file(seed=1), "README.md": b"hi"})
    fetched = person.get(NAME)
    assert fetched.path == models / REPO / FILE
    assert fetched.path.read_bytes() == DATA
    assert read_header(fetched.path).info().name == "Small test model"
    assert files_below(models) == {f"{REPO}/{FILE}"}
    assert fetched.origin == "fetched"
    assert fetched.received_bytes == len(DATA)
    assert fetched.sha256 == hashlib.sha256(DATA).hexdigest()
    assert fetched.revision == repo.commit
    assert fetched.license == "apache-2.0"
    assert [step.phase for step in person.steps[-2:]] == ["judging", "done"]
    assert person.steps[-1].received_bytes == len(DATA) == person.steps[-1].total_bytes
    assert download.fetch(NAME) == fetched.path
    # The token, if there is one, never goes to whoever delivers the bytes; see below, too.
    assert all("authorization" not in one.headers for one in hub.asked("cdn"))


def test_all_parts_and_the_companion_come_with_a_split_model(
    hub: HubServer, person: Any, models: Path
) -> None:
    parts = split_files("big-Q8_0", 3)
    files = {f"Q8_0/{name}": data for name, data in parts.items()}
    hub.add(REPO, files | {"mmproj-F16.gguf": projector_file(), FILE: DATA})
    fetched = person.get(f"hf:{REPO}:q8_0")
    assert [path.read_bytes() for path in fetched.files] == list(parts.values())
    assert fetched.path == models / REPO / "Q8_0" / "big-Q8_0-00001-of-00003.gguf"
    assert len(read_header(fetched.path).parts) == 3
    assert fetched.companion == models / REPO / "mmproj-F16.gguf"
    assert {(s.file_number, s.num_files) for s in person.steps if s.phase == "fetching"} == {
        (number, 4) for number in (1, 2, 3, 4)
    }
    received = [step.received_bytes for step in person.steps if step.phase == "fetching"]
    assert received == sorted(received)


def test_what_is_here_is_not_fetched_again(hub: HubServer, person: Any) -> None:
    hub.add(REPO, {FILE: DATA})
    person.get(NAME)
    hub.requests.clear()
    again = person.get(NAME)
    assert again.origin == "here"
    assert again.received_bytes == 0
    assert {one.where for one in hub.requests} == {"api"}
    hub.requests.clear()
    assert download.find(NAME) == download.find(f"hf:{REPO}") == again.path
    assert download.find(f"hf:{REPO}:Q8_0") is None
    assert person.get(NAME, newer="ignore").path == again.path
    assert person.get(f"hf:{REPO}", newer="ignore").path == again.path
    assert person.get(f"hf:{REPO}/{FILE}", newer="ignore").path == again.path
    assert hub.requests == []


def test_a_repository_is_one_folder_however_it_is_spelled(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add(REPO, {FILE: DATA})
    assert person.get("hf:OWNER/Tiny-gguf").path == models / REPO / FILE
    assert person.get(NAME).origin == "here"


def test_a_file_that_a_person_put_there_counts_if_it_is_the_very_one(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add(REPO, {FILE: DATA})
    (models / REPO).mkdir(parents=True)
    (models / REPO / FILE).write_bytes(DATA)
    assert person.get(NAME).origin == "here"
    assert hub.asked("cdn") == []


def test_another_version_is_told_and_replaced_only_when_asked_for(
    hub: HubServer, person: Any
) -> None:
    hub.add(REPO, {FILE: DATA})
    path = person.get(NAME).path
    newer = model_file(seed=5)
    hub.add(REPO, {FILE: newer})
    assert person.get(NAME).origin == "here"
    assert any("another version of it by now" in note for note in person.notes)
    assert path.read_bytes() == DATA
    assert person.get(NAME, newer="get").origin == "fetched"
    assert path.read_bytes() == newer
    assert person.get(NAME, newer="get").origin == "here"


def test_what_is_in_the_shared_cache_is_used_there(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add(REPO, {FILE: DATA, "tiny-Q8_0.gguf": model_file(seed=1)})
    cached = Path(huggingface_hub.hf_hub_download(REPO, FILE))  # as another program would
    before = files_below(Path(huggingface_hub.constants.HF_HUB_CACHE))
    fetched = person.get(NAME)
    assert fetched.origin == "cache"
    assert fetched.path == cached
    assert files_below(Path(huggingface_hub.constants.HF_HUB_CACHE)) == before
    assert not models.exists()
    # A commit that leaves the file as it is changes nothing; one that does, does.
    hub.add(REPO, {FILE: DATA, "tiny-Q8_0.gguf": model_file(seed=2)})
    assert person.get(NAME).origin == "cache"
    hub.add(REPO, {FILE: model_file(seed=3)})
    assert person.get(NAME).origin == "fetched"
    assert cached.read_bytes() == DATA


def test_a_model_goes_where_the_person_wants_it(
    hub: HubServer, person: Any, tmp_path: Path, models: Path
) -> None:
    hub.add(REPO, {f"sub/{FILE}": DATA, "sub/mmproj-F16.gguf": projector_file()})
    hub.add("other/repo", {FILE: model_file(seed=9)})
    fetched = person.get(NAME, to=tmp_path / "disk")
    assert fetched.path == tmp_path / "disk" / FILE
    assert files_below(tmp_path / "disk") == {FILE, "mmproj-F16.gguf"}
    assert not models.exists()
    assert person.get(NAME, to=tmp_path / "disk", newer="ignore").origin == "here"
    # Of another repository, it is not taken for that.
    for newer in ("ignore", "tell", "get"):
        person.refused("name_taken", "hf:other/repo:Q4_K_M", to=tmp_path / "disk", newer=newer)
    assert fetched.path.read_bytes() == DATA


@pytest.mark.parametrize("cut_after", [0, 1, 3, 4, 5, 1000, 65_536, len(DATA) // 2, len(DATA) - 1])
def test_a_connection_that_is_cut_costs_only_the_way_back(
    hub: HubServer, person: Any, cut_after: int
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", cut_after=cut_after)
    assert person.get(NAME).path.read_bytes() == DATA
    asked = hub.asked("cdn")
    assert len(asked) == 2
    start = int(re.sub(r"\D", "", asked[1].headers.get("range", "0")))
    assert start <= cut_after
    assert start or cut_after < 100  # what had arrived was not fetched again


def test_trouble_that_passes_is_waited_out(hub: HubServer, person: Any) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="api", status=500)
    hub.fault(where="api", status=429, headers={"Retry-After": "1"})
    hub.fault(where="resolve", status=503)
    hub.fault(where="resolve", status=429, headers={"RateLimit": '"resolvers";r=0;t=1'})
    hub.fault(where="cdn", status=502)
    hub.fault(where="cdn", status=403)  # an address that has run out
    hub.fault(where="cdn", cut_after=70_000)
    assert person.get(NAME).path.read_bytes() == DATA
    assert any(step.phase == "waiting" for step in person.steps)


@pytest.mark.parametrize("where", ["api", "resolve", "cdn"])
def test_a_server_that_wants_to_be_left_alone_for_long_is(
    hub: HubServer, person: Any, where: str
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where=where, status=429, headers={"Retry-After": "900"})
    error = person.refused("server_busy", NAME)
    assert error.details["retry_after_s"] == 900
    assert "15 min" in error.message
    assert person.get(NAME).path.read_bytes() == DATA


@pytest.mark.parametrize("where", ["api", "resolve", "cdn"])
def test_trouble_that_stays_ends_in_a_sentence_and_the_next_time_goes_on(
    hub: HubServer, person: Any, models: Path, where: str
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", cut_after=1_000_000)
    hub.fault(where="cdn", status=500, times=50)
    person.refused("server_busy", NAME)
    hub.mend()
    hub.fault(where=where, status=503, times=50)
    person.refused("server_busy", NAME)
    assert files_below(models) == {f"{REPO}/.downloads/{FILE}.part"}
    hub.mend()
    assert person.get(NAME).path.read_bytes() == DATA
    assert hub.asked("cdn")[-1].headers["range"] == "bytes=1000000-"


@pytest.mark.parametrize("resumed", [False, True])
def test_a_wrong_hash_is_never_taken(
    hub: HubServer, person: Any, models: Path, resumed: bool
) -> None:
    hub.add(REPO, {FILE: DATA})
    wrong = bytearray(DATA)
    wrong[2_000_000] ^= 1
    if resumed:
        hub.fault(where="cdn", cut_after=2_500_000, content=bytes(wrong))
        hub.fault(where="cdn", status=500, times=50)
        person.refused("server_busy", NAME)
        hub.mend()
        # The older bytes are the damaged ones: found out, and all of it fetched once more.
        assert person.get(NAME).path.read_bytes() == DATA
        assert any("damaged" in note for note in person.notes)
        return
    # Bytes of two states in one call: found out, and all of it fetched once more.
    hub.fault(where="cdn", cut_after=2_500_000, content=bytes(wrong))
    assert person.get(NAME).path.read_bytes() == DATA
    person.get(NAME).path.unlink()
    hub.fault(where="cdn", content=bytes(wrong), times=5)
    error = person.refused("checksum", NAME)
    assert error.details["expected"] == hashlib.sha256(DATA).hexdigest()
    assert error.details["sha256"] == hashlib.sha256(wrong).hexdigest()
    assert files_below(models) == set()
    hub.mend()
    assert person.get(NAME).path.read_bytes() == DATA


def test_a_file_that_the_hub_keeps_without_lfs_is_checked_by_its_own_checksum(
    hub: HubServer, person: Any
) -> None:
    small = model_bytes()
    hub.add(REPO, {FILE: small}, small=frozenset({FILE}))
    assert person.get(NAME).path.read_bytes() == small
    hub.add("owner/two", {FILE: small}, small=frozenset({FILE}))
    wrong = small[:-1] + b"!"
    hub.fault(where="resolve", content=wrong)
    person.refused("checksum", "hf:owner/two")


@pytest.mark.parametrize(
    ("lie", "problem"),
    [
        ({"size": 5_000_000}, "size"),  # the hub says more than there is
        ({"size": 1_000_000}, "size"),  # and less
        ({"sha256": "0" * 64}, "checksum"),
        ({"size": -1}, "server"),
        ({"size": 1 << 60}, "server"),
        ({"size": "3"}, "server"),
        ({"size": None}, "server"),
        ({"size": 1 << 49}, "no_space"),
    ],
)
def test_a_hub_that_lies_is_not_believed(
    hub: HubServer, person: Any, models: Path, lie: dict[str, Any], problem: str
) -> None:
    hub.add(REPO, {FILE: DATA}, lies={FILE: lie})
    person.refused(problem, NAME)
    assert not list(models.rglob(FILE))


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"{}", b'{"id": 1}', b'{"id": "x"}'])
def test_an_answer_that_is_none_ends_in_a_sentence(
    hub: HubServer, person: Any, answer: bytes
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="api", content=answer)
    assert "HF_ENDPOINT" in person.refused("server", NAME).message


@pytest.mark.slow
def test_an_answer_with_anything_odd_in_it_gives_a_model_or_a_sentence(
    hub: HubServer, person: Any
) -> None:
    hub.add(REPO, {FILE: DATA})
    person.get(NAME)
    answer = httpx.get(f"{hub.url}/api/models/{REPO}?blobs=true").json()
    (file,) = answer["siblings"]
    odd: list[Any] = [None, -1, "\u202e", [1], {"a": 1}]
    answers = [answer | {key: value} for key in answer for value in odd]
    for key in file:
        answers += [answer | {"siblings": [file | {key: value}]} for value in odd]
    for key in file["lfs"]:
        lfs = [file["lfs"] | {key: value} for value in (*odd, True, 1 << 70)]
        answers += [answer | {"siblings": [file | {"lfs": one}]} for one in lfs]
    outcomes = set()
    for changed in answers:
        hub.fault(where="api", content=json.dumps(changed).encode())
        hub.fault(where="api", content=json.dumps([changed]).encode())
        try:
            outcomes.add(person.get(NAME).origin)
        except DownloadError as error:
            outcomes.add(error.details["problem"])
        try:
            download.search("tiny", patience=person_patience())
        except DownloadError as error:
            outcomes.add(error.details["problem"])
        hub.mend()
    # "here" is most: what is odd is often of no importance. Nothing else may come of it.
    assert {"here", "server", "no_models"} <= outcomes
    assert outcomes <= {"here", "server", "no_models", "no_such_quantization", "checksum", "size"}


@pytest.mark.parametrize(
    "path",
    ["../x-Q4_K_M.gguf", "a/../../x-Q4_K_M.gguf", "/etc/x-Q4_K_M.gguf", "a\\..\\x-Q4_K_M.gguf"],
)
def test_a_path_that_leads_out_of_the_folder_is_left_out(
    hub: HubServer, person: Any, models: Path, tmp_path: Path, path: str
) -> None:
    hub.add(REPO, {path: DATA, "good-Q8_0.gguf": model_file(seed=1)})
    person.refused("no_such_quantization", NAME)
    assert any("is left out" in note for note in person.notes)
    assert person.get(f"hf:{REPO}").path == models / REPO / "good-Q8_0.gguf"
    assert not [p for p in tmp_path.rglob("*Q4_K_M*") if "hf" not in p.parts]


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"<!DOCTYPE html><html>" + b"x" * 3_000_000, "web page"),
        (b"PK\x03\x04" + b"x" * 3_000_000, "zip"),
        (b"version https://git-lfs.github.com/spec/v1\n" + b"x" * 3_000_000, "Git LFS"),
    ],
)
def test_what_is_no_gguf_file_is_refused_at_its_first_bytes(
    hub: HubServer, person: Any, models: Path, content: bytes, hint: str
) -> None:
    hub.add(REPO, {FILE: content})
    hub.fault(where="cdn", content=content, pace_s=0.01)
    error = person.refused("not_gguf", NAME)
    assert hint in error.message
    assert FILE in error.message
    assert ".part" not in error.message
    assert person.steps[-1].received_bytes < len(content)
    assert files_below(models) == set()


def test_what_is_gguf_and_no_model_is_refused(hub: HubServer, person: Any, models: Path) -> None:
    entries = {"general.architecture": Typed("string", "llama")}
    hub.add(REPO, {FILE: gguf_bytes(entries.items())})
    assert "vocabulary" in person.refused("not_a_model", NAME).message
    hub.add(REPO, {FILE: DATA[:-100]})  # as it was uploaded
    assert "cut short" in person.refused("not_a_model", NAME).message
    assert files_below(models) == set()


def test_a_large_file_that_is_no_model_is_seen_before_it_is_fetched(
    hub: HubServer, person: Any, models: Path
) -> None:
    adapter = model_file(20_000_000, general__type=Typed("string", "adapter"))
    hub.add(REPO, {FILE: adapter})
    assert "LoRA" in person.refused("not_a_model", NAME).message
    asked = hub.asked("cdn")
    assert [one.headers.get("range") for one in asked] == ["bytes=0-2097151"]
    assert files_below(models) == set()


def test_refusals_are_told_apart(
    hub: HubServer, person: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.add("owner/gated", {FILE: DATA}, gated="manual", token="hf_letmein")  # noqa: S106 - of a server of its own
    hub.add("owner/private", {FILE: DATA}, token="hf_letmein")  # noqa: S106 - of a server of its own
    person.refused("not_found", "hf:owner/nothing")
    person.refused("not_found", f"hf:{REPO}/other.gguf")
    error = person.refused("not_found", NAME, revision="v7")
    assert '"v7"' in error.message
    person.refused("no_such_quantization", f"hf:{REPO}:Q2_K")
    person.refused("not_found", "hf:owner/private")
    assert "hf auth login" in person.refused("gated", "hf:owner/gated").message
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    person.refused("gated", "hf:owner/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_letmein")
    for name in ("hf:owner/gated", "hf:owner/private"):
        assert person.get(name).path.read_bytes() == DATA
    assert hub.asked("resolve")[-1].headers["authorization"] == "Bearer hf_letmein"
    assert all("authorization" not in one.headers for one in hub.asked("cdn"))


@pytest.mark.parametrize(
    "location", ["http://example.org/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "//[", ""]
)
def test_only_safe_redirections_are_followed(
    hub: HubServer, person: Any, models: Path, location: str
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="resolve", location=location, times=20)
    person.refused("redirect", NAME)
    assert files_below(models) == set()


def test_a_revision_is_fetched_as_it_was(hub: HubServer, person: Any) -> None:
    commit = hub.add(REPO, {FILE: DATA}).commit
    assert person.get(NAME, revision=commit).revision == commit
    assert commit in hub.asked("resolve")[0].path
    # The file that is here is not taken for one of another revision.
    hub.add(REPO, {FILE: model_file(seed=4)})
    newest = hub.repos[REPO].commit
    assert "--newer" in person.refused("name_taken", NAME, revision=newest).message
    assert person.get(NAME, revision=newest, newer="get").revision == newest
    for wrong in ("../main", "a b", "", "-x"):
        with pytest.raises(InvalidValueError, match="no revision"):
            person.get(NAME, revision=wrong)


def test_a_page_of_the_hub_means_what_is_on_it(hub: HubServer, person: Any, models: Path) -> None:
    hub.add(REPO, {FILE: DATA, "tiny-Q8_0.gguf": model_file(seed=1)})
    for page in (f"/{REPO}/blob/main/{FILE}", f"/{REPO}/resolve/main/{FILE}?download=true"):
        assert person.get(hub.url + page).path == models / REPO / FILE
    assert person.get(f"{hub.url}/{REPO}").path == models / REPO / FILE
    assert person.get(f"{hub.url}/{REPO}/blob/main/tiny-Q8_0.gguf").path.name == "tiny-Q8_0.gguf"


def test_a_checksum_that_the_person_has_is_held_against_the_hubs(
    hub: HubServer, person: Any
) -> None:
    hub.add(REPO, {FILE: DATA} | split_files("big-Q8_0", 2))
    person.refused("checksum", NAME, sha256="0" * 64)
    assert hub.asked("cdn") == []
    digest = hashlib.sha256(DATA).hexdigest()
    assert person.get(NAME, sha256=digest.upper()).sha256 == digest
    with pytest.raises(InvalidValueError, match="no SHA-256"):
        person.get(NAME, sha256="abc")
    with pytest.raises(InvalidValueError, match="2 files"):
        person.get(f"hf:{REPO}:Q8_0", sha256=digest)


def test_a_name_and_a_header_that_differ_are_told(hub: HubServer, person: Any) -> None:
    hub.add(REPO, {FILE: model_file(general__file_type=Typed("uint32", 7))})
    person.get(NAME)
    assert any("by its header Q8_0" in note for note in person.notes)


def test_offline_what_is_here_is_used_and_what_is_not_is_said(
    hub: HubServer, person: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, {FILE: DATA, "tiny-Q8_0.gguf": model_file(seed=1)})
    path = person.get(NAME).path
    cached = huggingface_hub.hf_hub_download(REPO, "tiny-Q8_0.gguf")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert person.get(NAME).path == path
    assert any("HF_HUB_OFFLINE" in note for note in person.notes)
    assert str(person.get(f"hf:{REPO}:Q8_0").path) == cached
    error = person.refused("offline", f"hf:{REPO}:Q2_K")
    assert FILE in error.message  # what there is instead
    person.refused("offline", "hf:owner/unknown")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        download.search("tiny", patience=person_patience())
    assert hub.requests == []


def test_a_hub_that_cannot_be_reached_is_like_offline(
    hub: HubServer, person: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, {FILE: DATA})
    path = person.get(NAME).path
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert person.get(NAME).path == path
    assert any("nothing answers there" in note for note in person.notes)
    person.refused("unreachable", f"hf:{REPO}:Q2_K")


def test_without_the_library_the_error_says_what_to_install(
    person: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match=r"gguf-widgets\[download\]") as caught:
        person.get(NAME)
    assert caught.value.details["install"] == 'pip install "gguf-widgets[download]"'


def person_patience() -> download.Patience:
    return download.Patience(tries=2, first_wait_s=0.01)
