"""`ModelDownloader`: what its page is told, whatever the page sends, and the words it uses."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import pytest
from support.hub_server import HubServer, model_file, projector_file, split_files
from support.servers import wait_until

from gguf_widgets.core.download import Patience
from gguf_widgets.core.download.queue import DownloadQueue
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.widgets.model_downloader import ModelDownloader

WAIT_S = 60.0
QUICK = Patience(
    connect_s=5, read_s=5, tries=3, first_wait_s=0.01, longest_wait_s=0.05, longest_retry_after_s=3
)
REPO = "owner/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"
DATA = model_file()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    constants = huggingface_hub.constants
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
        monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "hf" / "tokens"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield server
        server.hang_up()
        for thread in threading.enumerate():
            if thread.name.startswith(("gguf-widgets", "ModelDownloader")):
                thread.join(30)
                assert not thread.is_alive(), thread.name
    huggingface_hub.close_session()


class Page:
    """A page: what it sends, and what it was last told."""

    def __init__(self, downloader: ModelDownloader, monkeypatch: pytest.MonkeyPatch) -> None:
        self.downloader = downloader
        self.sent: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {}
        self.changed = threading.Condition()
        self.number = 0
        monkeypatch.setattr(downloader, "send", self._take)

    def _take(self, content: dict[str, Any], _buffers: object = None) -> None:
        content = json.loads(json.dumps(content))  # as it crosses the wire
        with self.changed:
            self.sent.append(content)
            if content["kind"] == "state":
                self.state = content["state"]
            elif content["kind"] == "jobs" and self.state:
                self.state = self.state | {"jobs": content["jobs"]}
            self.changed.notify_all()

    def post(self, kind: str, **content: Any) -> str:
        self.number += 1
        mid = f"m{self.number}"
        message = {"kind": kind, "mid": mid, **content}
        self.downloader._on_page(self.downloader, message, [])
        return mid

    def ask(self, kind: str, **content: Any) -> dict[str, Any]:
        mid = self.post(kind, **content)
        return self.wait(
            lambda: next((one for one in self.sent if one.get("mid") == mid), None),
            f"an answer: {kind}",
        )

    def wait(self, found: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + WAIT_S
        with self.changed:
            while not (value := found()):
                assert self.changed.wait(end - time.monotonic()), (what, self.sent[-3:])
            return value

    def find(self, text: str) -> dict[str, Any]:
        """Look for something and wait for the end of it."""
        self.post("find", text=text)
        self.wait(
            lambda: (
                self.state.get("find", {}).get("text") == text.strip()
                and self.state["find"]["status"] != "busy"
            ),
            f"found {text}",
        )
        return dict(self.state["find"])

    def repo(self, name: str) -> dict[str, Any]:
        return next(dict(one) for one in self.state["find"]["repos"] if one["name"] == name)

    def opened(self, name: str) -> dict[str, Any]:
        self.wait(lambda: self.repo(name)["status"] in ("open", "failed"), f"{name} is open")
        return self.repo(name)

    def job(self, *states: str, number: int = 0) -> dict[str, Any]:
        """Wait until a download is in one of these states."""

        def found() -> Any:
            jobs = self.state.get("jobs", [])
            return jobs[number] if len(jobs) > number and jobs[number]["state"] in states else None

        return dict(self.wait(found, f"a download is {states}"))


@pytest.fixture
def page(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    queue = DownloadQueue(patience=QUICK)
    downloader = ModelDownloader(queue)
    downloader._finder._patience = QUICK
    page = Page(downloader, monkeypatch)
    page.post("snapshot")
    page.wait(lambda: page.state, "the first state")
    yield page
    downloader.close()
    queue.close(30)


def fill(hub: HubServer) -> None:
    files = {f"tiny-{q}.gguf": model_file(size, seed=size) for q, size in QUANTS.items()}
    hub.add(REPO, files | {FILE: DATA, "mmproj-F16.gguf": projector_file()})
    hub.add("owner/big-GGUF", split_files("big-Q8_0", 3))


QUANTS = {"Q2_K": 400_000, "Q8_0": 500_000, "BF16": 600_000}


def test_a_search_lists_repositories_and_one_opens_to_its_versions(
    hub: HubServer, page: Page
) -> None:
    fill(hub)
    found = page.find(" gguf ")
    assert [repo["name"] for repo in found["repos"]] == [REPO, "owner/big-GGUF"]
    assert found["repos"][0]["facts"][:2] == ["1,234 downloads", "5 likes"]
    assert (found["more"], found["error"]) == (False, None)
    page.post("open", repo=REPO)
    versions = page.opened(REPO)["versions"]["models"]
    assert [one["quant"] for one in versions] == ["Q4_K_M", "Q2_K", "Q8_0", "BF16"]
    first = versions[0]
    assert (first["why"], first["words"]) == ("recommended", "4 bits: the usual choice")
    assert first["along"].startswith("With its companion for images (")
    assert first["fit"]["text"] == "fits this computer"
    assert {one["here"] for one in versions} == {""}
    page.post("open", repo="owner/big-GGUF")
    (big,) = page.opened("owner/big-GGUF")["versions"]["models"]
    assert big["along"] == "With 3 files that belong together"
    assert (big["why"], big["first"]) == ("", True)  # there is nothing else
    # Folded and opened again, nothing is asked anew.
    num = len(hub.requests)
    page.post("fold", repo=REPO)
    page.wait(lambda: page.repo(REPO)["status"] == "closed", "it is folded")
    page.post("open", repo=REPO)
    assert page.opened(REPO)["versions"]["models"] == versions
    assert len(hub.requests) == num


def test_different_models_in_one_repository_are_told_apart_by_their_files(
    hub: HubServer, page: Page
) -> None:
    hub.add(REPO, {"a-Q4_K_M.gguf": model_file(400_000), "b-Q4_K_M.gguf": model_file(500_000)})
    page.find(f"hf:{REPO}")
    versions = page.opened(REPO)["versions"]["models"]
    assert [one["label"] for one in versions] == ["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"]
    assert [one["first"] for one in versions] == [False, False]


def test_a_search_tells_when_there_is_more_and_brings_it(hub: HubServer, page: Page) -> None:
    for number in range(25):
        hub.add(f"owner/many-{number:02}-GGUF", {FILE: DATA})
    found = page.find("many")
    assert (len(found["repos"]), found["more"], found["limit"]) == (20, True, 20)
    page.post("more")
    page.wait(lambda: len(page.state["find"]["repos"]) == 25, "all of them")
    assert page.state["find"]["more"] is False


def test_what_was_changed_lately_is_said(hub: HubServer, page: Page) -> None:
    then = (dt.datetime.now(dt.UTC) - dt.timedelta(days=22)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    answer = [{"id": "a/b", "downloads": 1, "likes": 12_345, "gated": "auto", "lastModified": then}]
    hub.fault(where="api", match="search=", content=json.dumps(answer).encode())
    (repo,) = page.find("b")["repos"]
    assert repo["facts"] == ["1 download", "12.3 K likes", "updated 3 weeks ago"]
    assert repo["gated"] is True


def test_a_newer_search_ends_the_one_before(hub: HubServer, page: Page) -> None:
    fill(hub)
    hub.fault(where="api", match="search=", stall_s=3, content=b"[]")
    page.post("find", text="slow")
    wait_until(lambda: hub.asked("api"), WAIT_S, "the first was asked")
    found = page.find("tiny")
    assert [repo["name"] for repo in found["repos"]] == [REPO]
    time.sleep(0.2)
    assert page.state["find"]["text"] == "tiny"
    # And Stop ends one without another.
    hub.fault(where="api", match="search=", stall_s=3, content=b"[]")
    page.post("find", text="slow")
    page.wait(lambda: page.state["find"]["status"] == "busy", "it searches")
    page.post("stop")
    page.wait(lambda: page.state["find"]["status"] == "none", "it has stopped")


def test_a_name_is_understood_at_once_and_shows_what_was_meant(hub: HubServer, page: Page) -> None:
    fill(hub)
    assert page.ask("hint", text="small models")["text"] == ""
    hint = page.ask("hint", text=f"hf:{REPO}:Q8_0")
    assert hint["text"] == f"The version Q8_0 of {REPO} is looked at first."
    bad = page.ask("hint", text="hf:no")
    assert bad["what"] == "bad"
    assert "owner/repo" in bad["text"]
    assert not hub.requests

    page.find(f"hf:{REPO}:q8_0")
    first, *others = page.opened(REPO)["versions"]["models"]
    assert (first["quant"], first["why"]) == ("Q8_0", "you asked for this")
    assert len(others) == 3
    # A page of the hub, as it is copied from a browser.
    page.find(f"{hub.url}/{REPO}/blob/main/tiny-Q2_K.gguf")
    page.wait(lambda: page.state["find"]["repos"], "the page was understood")
    assert page.opened(REPO)["versions"]["models"][0]["quant"] == "Q2_K"
    # A version that is not there: what there is.
    page.find(f"hf:{REPO}:Q6_K")
    versions = page.opened(REPO)["versions"]
    assert versions["models"][0]["why"] == "recommended"
    assert "has no version Q6_K" in versions["notes"][0]
    assert page.find("hf:no")["error"]["title"] == "This cannot be fetched"
    assert "characters" in page.find("x" * 300)["error"]["text"]


def test_a_download_is_shown_until_it_is_in_the_list_of_models(
    hub: HubServer, page: Page, home: Path
) -> None:
    fill(hub)
    finished: list[str] = []
    page.downloader.observe(lambda change: finished.append(change.new), "finished")
    page.find(f"hf:{REPO}")
    name = page.opened(REPO)["versions"]["models"][0]["name"]
    hub.fault(where="cdn", pace_s=0.005)
    job_id = page.ask("download", name=name)["id"]
    page.wait(lambda: any("/s" in job["phrase"] for job in page.state["jobs"]), "its speed is said")
    job = page.job("done")
    assert (job["id"], job["title"], job["source"]) == (job_id, FILE, REPO)
    assert "it is in the list of models now" in job["phrase"]
    page.wait(lambda: page.repo(REPO)["versions"]["models"][0]["here"] == "here", "it is here")
    wait_until(lambda: finished, WAIT_S, "Python is told")
    assert finished == [str(home / "models" / REPO / FILE)]
    page.post("dismiss", id=job_id)
    page.wait(lambda: page.state["jobs"] == [], "it is dismissed")


def test_another_version_that_is_here_is_replaced_only_when_that_is_asked_for(
    hub: HubServer, page: Page, home: Path
) -> None:
    hub.add(REPO, {FILE: model_file(400_000)})
    page.ask("download", name=f"hf:{REPO}/{FILE}")
    page.job("done")
    hub.add(REPO, {FILE: DATA})
    page.find(f"hf:{REPO}")
    (version,) = page.opened(REPO)["versions"]["models"]
    assert version["here"] == "other"
    page.ask("download", name=version["name"], replace="yes")  # that is not what the page sends
    page.wait(lambda: "here already" in page.job("done")["phrase"], "the one here is used")
    assert "another version of it" in " ".join(page.job("done")["notes"])
    page.ask("download", name=version["name"], replace=True)
    page.wait(lambda: "in the list of models now" in page.job("done")["phrase"], "it is fetched")
    assert (home / "models" / REPO / FILE).read_bytes() == DATA


def test_progress_is_sent_a_few_times_a_second_at_most(hub: HubServer, page: Page) -> None:
    fill(hub)
    hub.fault(where="cdn", pace_s=0.01, times=9)
    times: list[float] = []
    take = page._take

    def noted(content: dict[str, Any], buffers: object = None) -> None:
        if content["kind"] == "jobs":
            times.append(time.monotonic())
        take(content, buffers)

    page.downloader.send = noted  # type: ignore[method-assign]
    page.downloader.download(f"hf:{REPO}:Q4_K_M")
    page.job("done")
    assert len(times) >= 3
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) > 0.1


def test_what_python_asks_for_shows_too_and_a_second_widget_shows_the_same(
    hub: HubServer, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(hub)
    with contextlib.closing(ModelDownloader(page.downloader.queue)) as other:
        second = Page(other, monkeypatch)
        second.post("snapshot")
        hub.fault(where="cdn", pace_s=0.04)
        job_id = page.downloader.download(f"hf:{REPO}:Q4_K_M")
        assert page.job("running")["id"] == job_id
        page.wait(lambda: page.state["jobs"][0]["phase"] == "fetching", "bytes come")
        second.post("pause", id=job_id)
        paused = page.job("paused")
        assert paused["actions"] == ["go-on", "cancel"]
        assert paused["ask"].startswith("Throw away the ")
        assert second.job("paused")["phrase"] == paused["phrase"]
        # The end of a widget ends no download.
        hub.mend()
        page.post("go-on", id=job_id)
        page.job("running", "waiting", "done")
        page.downloader.close()
        assert second.job("done")["title"] == "tiny-GGUF Q4_K_M"


def test_what_was_left_goes_on_or_is_removed(hub: HubServer, page: Page, home: Path) -> None:
    fill(hub)
    hub.fault(where="cdn", pace_s=0.04)
    earlier = DownloadQueue(patience=QUICK)
    part = home / "models" / REPO / ".downloads" / f"{FILE}.part"
    earlier.add(f"hf:{REPO}/{FILE}")
    wait_until(lambda: part.exists() and part.stat().st_size > 200_000, WAIT_S, "bytes")
    page.post("snapshot")
    busy = page.wait(lambda: page.state["left"], "it is seen")[0]
    assert busy["actions"] == []
    assert "another page or program fetches it" in busy["phrase"]
    earlier.close(30)
    page.post("snapshot")
    page.wait(lambda: page.state["left"][0]["actions"], "it has stopped")
    left = page.state["left"][0]
    assert (left["title"], left["actions"]) == (FILE, ["go-on", "remove"])
    hub.mend()
    page.ask("left-go-on", key=left["key"])
    assert page.job("done")["title"] == FILE
    assert page.state["left"] == []
    answer = page.ask("left-remove", key=left["key"])
    assert "not there any more" in answer["error"]["text"]


def test_an_address_says_its_size_and_takes_a_checksum(hub: HubServer, page: Page) -> None:
    url = hub.page("/x/some.gguf", DATA) + "?token=secret"
    address = page.find(url)["address"]
    assert (address["title"], address["host"], address["single"]) == (
        "some.gguf",
        "127.0.0.1",
        True,
    )
    assert address["facts"] == ["3 MB"]
    refused = page.ask("download-address", sha256="12")
    assert "is no SHA-256" in refused["error"]["text"]
    page.ask("download-address", sha256="0" * 64)
    failed = page.job("failed")
    assert failed["error"]["title"] == "This is not the file that was promised"
    assert f"Arrived: {hashlib.sha256(DATA).hexdigest()[:8]}…" in failed["error"]["text"]
    assert failed["phrase"] == ""
    page.ask("download-address", sha256=hashlib.sha256(DATA).hexdigest().upper())
    page.job("done")
    page.wait(lambda: page.state["find"]["address"]["here"], "it is here")
    assert all("token=secret" not in str(m["state"]["jobs"]) for m in page.sent if "state" in m)


def test_messages_that_make_no_sense_do_no_harm(hub: HubServer, page: Page) -> None:
    fill(hub)
    for content in (
        None, 7, "x", [], {}, {"kind": None}, {"kind": "open"}, {"kind": "open", "repo": 7},
        {"kind": "open", "repo": "../.."}, {"kind": "fold", "repo": "nobody/nothing"},
        {"kind": "find", "text": ["a"]}, {"kind": "more"}, {"kind": "stop"},
    ):  # fmt: skip
        page.downloader._on_page(page.downloader, content, None)
    for kind in ("pause", "go-on", "cancel", "dismiss"):
        assert page.ask(kind, id="nothing")["error"]["problem"] == "unknown"
        assert page.ask(kind, id={"a": 1})["error"]["problem"] == "unknown"
    for name in (
        "",
        "file:///etc/passwd",
        "hf:../..",
        "hf:a/b/../../x.gguf",
        "http://example.org/x",
    ):
        assert page.ask("download", name=name)["error"]["title"] == "This cannot be fetched"
    assert "5,001 characters" in page.ask("download", name="x" * 5001)["error"]["text"]
    assert "Paste the address again" in page.ask("download-address")["error"]["text"]
    assert page.state["jobs"] == []
    assert page.ask("ping")["kind"] == "pong"


def test_what_is_missing_is_said_with_what_helps(
    hub: HubServer, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()  # a session keeps what it was made with
    error = page.find("gguf")["error"]
    assert (error["title"], error["problem"]) == ("The hub is switched off here", "offline")
    assert page.state["offline"] is True
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    error = page.find("other")["error"]
    assert error["title"] == "A package is missing"
    assert error["command"] == 'pip install "gguf-widgets[download]"'
    assert error["command"] not in error["text"]
    page.post("snapshot")
    page.wait(lambda: page.state["install"] == error["command"], "the line is there at once")
    # An address needs no hub.
    assert page.find(hub.page("/x/some.gguf", DATA))["address"]["title"] == "some.gguf"
    page.ask("download-address", sha256="")
    page.job("done")


def test_a_queue_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="must be a DownloadQueue"):
        ModelDownloader(7)  # type: ignore[arg-type]
