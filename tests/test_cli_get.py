"""`gguf-widgets get` as people and programs meet it; the hub's settings come from outside."""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub_server import HubServer, files_below, model_file, projector_file
from support.servers import Home, wait_until

REPO = "owner/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"
DATA = model_file()


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        server.add(REPO, {FILE: DATA, "tiny-Q8_0.gguf": model_file(seed=1)})
        yield server


@pytest.fixture
def person(tmp_path: Path, hub: HubServer) -> Iterator[Home]:
    home = Home(
        tmp_path / "person",
        HF_ENDPOINT=hub.url,
        HF_HOME=str(tmp_path / "person" / "hf"),
        HF_TOKEN="",
        HF_HUB_OFFLINE="",
    )
    yield home
    home.close()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gguf_widgets", "get", *arguments]


def run(home: Home, *arguments: str, **switches: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        check=False,
        cwd=home.folder / "work",
        env=home.environment | switches,
        capture_output=True,
        text=True,
        timeout=100,
    )


def part_of(home: Home) -> Path:
    return home.models / REPO / ".downloads" / f"{FILE}.part"


def test_the_path_alone_is_on_standard_output_and_the_rest_beside_it(
    person: Home, hub: HubServer
) -> None:
    done = run(person, f"hf:{REPO}")
    assert done.returncode == 0, done.stderr
    path = person.models / REPO / FILE
    assert done.stdout == f"{path}\n"
    assert path.read_bytes() == DATA
    lines = done.stderr.splitlines()
    assert "Q4_K_M was chosen of 2 versions" in done.stderr
    assert f"{FILE} is here now: 3 MB, licence apache-2.0" in lines
    assert f"SHA-256 {hashlib.sha256(DATA).hexdigest()}" in lines
    assert "\r" not in done.stderr
    again = run(person, REPO, "--quant", "q4_k_m")  # without hf: as well
    assert again.stdout == done.stdout
    assert "was here already" in again.stderr
    inspected = subprocess.run(
        [sys.executable, "-m", "gguf_widgets", "inspect", str(path)],
        check=True,
        env=person.environment,
        capture_output=True,
        text=True,
    )
    assert "Small test model" in inspected.stdout


def test_for_programs_everything_is_json(person: Home, hub: HubServer, tmp_path: Path) -> None:
    hub.add(REPO, {FILE: DATA, "mmproj-F16.gguf": projector_file()})
    got = json.loads(run(person, f"hf:{REPO}", "--to", str(tmp_path / "x"), "--json").stdout)
    assert got["path"] == str(tmp_path / "x" / FILE)
    assert got["companion"] == str(tmp_path / "x" / "mmproj-F16.gguf")
    assert (got["origin"], got["revision"]) == ("fetched", hub.repos[REPO].commit)
    listed = json.loads(run(person, REPO, "--list", "--json").stdout)
    (model,) = listed["models"]
    assert model["quantization"] == "Q4_K_M"
    assert model["fit"]["verdict"] == "yes"
    assert model["companion"] == "mmproj-F16.gguf"
    found = json.loads(run(person, "--search", "tiny", "--json").stdout)
    assert [one["name"] for one in found] == [f"hf:{REPO}"]
    assert not (person.models / REPO).exists()


def test_lists_are_tables(person: Home) -> None:
    listed = run(person, f"hf:{REPO}", "--list").stdout.splitlines()
    assert listed[0].startswith(f"{REPO}, licence apache-2.0")
    assert listed[1].split()[:2] == ["Version", "Size"]
    assert [line.split()[0] for line in listed[2:]] == ["Q4_K_M", "Q8_0"]
    found = run(person, "--search", "tiny").stdout.splitlines()
    assert found[1].split()[0] == f"hf:{REPO}"
    assert run(person, "--search", "nothing like it").stdout == "Nothing was found.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Say which model"),
        (("--search", "x", "hf:a/b"), "With --search no model is named"),
        (("hf:repo",), "is no repository"),
        ((f"hf:{REPO}:Q8_0", "--quant", "Q4_K_M"), "--quant goes with a repository alone"),
        ((f"hf:{REPO}:Q2_K",), "no version Q2_K. There are Q4_K_M (3 MB), Q8_0 (3 MB)."),
        (("https://example.org/x.gguf", "--list"), "Only a repository can be listed"),
        (("http://example.org/x.gguf",), "Use https"),
        (("hf:owner/nothing",), "was not found"),
        ((f"hf:{REPO}", "--sha256", "ff"), "is no SHA-256"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_status_1(
    person: Home, arguments: tuple[str, ...], message: str
) -> None:
    done = run(person, *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("gguf-widgets: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_offline_is_one_sentence_and_what_is_here_is_used(person: Home, hub: HubServer) -> None:
    assert run(person, f"hf:{REPO}").returncode == 0
    hub.requests.clear()
    here = run(person, f"hf:{REPO}", HF_HUB_OFFLINE="1")
    assert here.returncode == 0
    assert here.stdout == f"{person.models / REPO / FILE}\n"
    assert "HF_HUB_OFFLINE is set" in here.stderr
    away = run(person, f"hf:{REPO}:Q8_0", HF_HUB_OFFLINE="1")
    assert away.returncode == 1
    assert FILE in away.stderr  # what there is instead
    assert hub.requests == []


def test_the_token_of_the_environment_opens_a_gated_repository(
    person: Home, hub: HubServer
) -> None:
    hub.add("owner/gated", {FILE: DATA}, gated="auto", token="hf_letmein")  # noqa: S106
    shut = run(person, "hf:owner/gated")
    assert shut.returncode == 1
    assert "hf auth login" in shut.stderr
    assert run(person, "hf:owner/gated", HF_TOKEN="hf_letmein").returncode == 0  # noqa: S106
    assert all("authorization" not in one.headers for one in hub.asked("cdn"))


def test_newer_replaces_what_is_here(person: Home, hub: HubServer) -> None:
    run(person, f"hf:{REPO}")
    newer = model_file(seed=9)
    hub.add(REPO, {FILE: newer})
    assert "--newer" in run(person, f"hf:{REPO}").stderr
    assert (person.models / REPO / FILE).read_bytes() == DATA
    run(person, f"hf:{REPO}", "--newer")
    assert (person.models / REPO / FILE).read_bytes() == newer


@pytest.mark.skipif(os.name == "nt", reason="Windows has no Ctrl+C for one process")
def test_ctrl_c_keeps_what_arrived_and_says_how_to_go_on(person: Home, hub: HubServer) -> None:
    hub.fault(where="cdn", pace_s=0.01)
    process = subprocess.Popen(
        command(f"hf:{REPO}", "--quant", "Q4_K_M"),
        env=person.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: part_of(person).exists() and part_of(person).stat().st_size, 40, "bytes")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert f"to go on from there: gguf-widgets get hf:{REPO} --quant Q4_K_M" in err
    assert "Traceback" not in err
    kept = part_of(person).stat().st_size
    assert files_below(person.models) == {f"{REPO}/.downloads/{FILE}.part"}
    hub.requests.clear()
    assert run(person, f"hf:{REPO}:Q4_K_M").returncode == 0
    assert hub.asked("cdn")[0].headers["range"] == f"bytes={kept}-"


def test_what_is_unfinished_is_listed_and_can_be_removed(person: Home, hub: HubServer) -> None:
    assert run(person, "--unfinished").stdout == "Nothing is unfinished.\n"
    hub.fault(where="cdn", cut_after=1_000_000)
    hub.fault(where="cdn", status=404)
    assert run(person, f"hf:{REPO}").returncode == 1
    (one,) = json.loads(run(person, "--unfinished", "--json").stdout)
    assert one["name"] == f"hf:{REPO}/{FILE}"
    assert (one["received_bytes"], one["total_bytes"]) == (1_000_000, len(DATA))
    assert run(person, "hf:owner/other", "--discard").returncode == 1
    done = run(person, f"hf:{REPO}", "--discard")
    assert done.stdout.splitlines() == [f"hf:{REPO}/{FILE}  1 MB of 3 MB", "1 MB removed"]
    assert files_below(person.models) == set()
    assert run(person, f"hf:{REPO}").returncode == 0
    assert run(person, f"hf:{REPO}", "--discard").returncode == 1  # of what is finished, nothing
    assert (person.models / REPO / FILE).read_bytes() == DATA


@pytest.mark.skipif(os.name == "nt", reason="there are no such terminals on Windows")
def test_on_a_terminal_one_line_shows_how_far_it_is(person: Home, hub: HubServer) -> None:
    hub.fault(where="cdn", pace_s=0.01)
    import pty  # not on Windows

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(f"hf:{REPO}:Q4_K_M"),
        env=person.environment | {"COLUMNS": "60"},
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            more = os.read(ours, 65_536)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        shown += more
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.decode().strip().endswith(FILE)
    lines = shown.decode().replace("\r\n", "\n").split("\r")
    moving = [line for line in lines if "of 3 MB" in line]
    assert len(moving) > 3
    assert all(len(line.rstrip()) < 60 for line in moving[:-1])
    # The line is wiped away before what stays is printed.
    last = shown.decode().replace("\r\n", "\n").rpartition("\r")[2]
    assert f"\n{FILE} is here now" in last
    assert "of 3 MB" not in last
