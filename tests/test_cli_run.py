"""`gguf-widgets run` and `runs` as people and programs meet them."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from gguf_widgets.batch.processor import runs
from gguf_widgets.core.store.store import Store
from tests.core.conftest import processes_of, wait_for

LABEL = ["--prompt", "Is this positive or negative? {review}", "--choices", "positive, negative"]
REVIEWS = [("I love it, a great lamp!", "2024-01-05", 5), ("It broke. Terrible.", "", 1)]


@pytest.fixture(autouse=True)
def none_left(home: Path) -> Iterator[None]:
    """Let no process outlive its test; a worker would stay for five minutes."""
    yield
    left = processes_of(home)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, 20)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    write(path, REVIEWS)
    return path


def write(path: Path, rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("review", "day", "stars"), *rows])


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "gguf_widgets", *map(str, arguments)]


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), check=False, capture_output=True, text=True, timeout=120
    )


def only_run() -> Any:
    with Store() as store:
        (run,) = runs(store=store)
        return run.id, run.status.value, run.counts


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ".xlsx"])
def test_a_table_in_and_a_table_out(table: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"result{ending}"
    done = call("run", table, *LABEL, "--out", out)
    assert (done.returncode, done.stdout) == (0, f"{out}\n"), done.stderr
    assert "2 of 2 rows, finished" in done.stderr
    read = {
        ".csv": pd.read_csv,
        ".jsonl": lambda path: pd.read_json(path, lines=True),
        ".parquet": pd.read_parquet,
        ".xlsx": pd.read_excel,
    }[ending]
    frame = read(out)
    assert frame["review"].tolist() == [text for text, _, _ in REVIEWS]
    assert frame["reply"].tolist() == ["positive", "negative"]
    assert frame["stars"].tolist() == [5, 1]
    assert str(frame["day"].iloc[0]).startswith("2024-01-05")
    assert pd.isna(frame["day"].iloc[1])
    assert frame["reply.p.positive"].between(0, 1).all()
    if ending == ".csv":
        assert out.read_text().splitlines()[1].startswith('"I love it, a great lamp!",2024-01-05,5')
    again = call("run", table, *LABEL, "--out", out)
    assert again.returncode == 1
    assert "is there already" in again.stderr


def test_rows_that_fail_are_said_and_asked_again_and_a_schema_makes_columns(
    tmp_path: Path,
) -> None:
    table, schema = tmp_path / "orders.txt", tmp_path / "order.json"
    table.write_text("I want 3 red lamps sent to Berlin.\nI want 12 chairs sent to Paris.\n")
    schema.write_text(
        json.dumps(
            {
                "type": "object",
                "properties": {"item": {"type": "string"}, "quantity": {"type": "integer"}},
                "required": ["item", "quantity"],
                "additionalProperties": False,
            }
        )
    )
    ask = ["run", table, "--prompt", "Read this order as JSON: {text}", "--schema", schema]
    cut = call(*ask, "--max-tokens", 3, "--json")
    assert cut.returncode == 3
    facts = json.loads(cut.stdout)
    assert (facts["status"], facts["failed"], facts["out"]) == ("finished", 2, None)
    assert f"gguf-widgets run --resume {facts['id'][:8]} --retry-failed" in cut.stderr
    again = call("run", "--resume", facts["id"][:8], "--retry-failed", "--json")
    assert (again.returncode, json.loads(again.stdout)["failed"]) == (3, 2)
    out = tmp_path / "orders.csv"
    done = call(*ask, "--out", out, "--title", "Orders")
    assert done.returncode == 0, done.stderr
    frame = pd.read_csv(out)
    assert {"item", "quantity", "status", "num_prompt_tokens"} <= set(frame)
    assert frame["quantity"].dtype == "int64"
    listed = json.loads(call("runs", "--json").stdout)
    assert listed[0]["title"] == "Orders"
    shown = call("runs", "--limit", 1).stdout
    assert "2 of 2" in shown
    assert len(shown.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing.csv", *LABEL], "nothing.csv"),
        (["{table}"], "--prompt"),
        (["{table}", "--prompt", "About {reveiw}"], 'did you mean "review"'),
        (["{table}", *LABEL, "--out", "result.doc"], "does not say by its ending"),
        (["{table}", *LABEL, "--out", "no/such/result.csv"], "no folder"),
        (["{table}", "--prompt", "{review}", "--choices", "a,,b"], "empty one"),
        (["{table}", "--prompt", "{review}", "--schema", "{table}"], "is not JSON"),
        (["{table}", "--prompt", "About {day}"], "no value in a column"),
        (["{table}", *LABEL, "--temperature", "9"], "temperature"),
        (["--resume", "abcd"], "no batch run"),
        (["--resume", "abcd", "--prompt", "x"], "leave out --prompt"),
        (["{table}", *LABEL, "--background", "--out", "x.csv"], "--out"),
        (["{table}", "--prompt-file", "nothing.txt"], "cannot be read"),
        ([], "Say which table"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_nothing_is_left_behind(
    table: Path, arguments: list[str], says: str
) -> None:
    done = call("run", *(one.replace("{table}", str(table)) for one in arguments))
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    with Store() as store:
        assert runs(store=store) == []


def test_it_tells_what_a_run_would_be_like_and_keeps_nothing(table: Path) -> None:
    done = call("run", table, *LABEL, "--check")
    assert done.returncode == 0, done.stderr
    assert "2 rows, 2 replies to ask for" in done.stdout
    assert "no runs yet" in call("runs").stdout


@pytest.mark.skipif(os.name != "posix", reason="the signal of Ctrl+C")
def test_ctrl_c_keeps_what_is_done_and_the_command_it_names_goes_on(tmp_path: Path) -> None:
    table = tmp_path / "many.csv"
    write(table, [(f"Emma and {i} lamps", "2024-01-05", i) for i in range(400)])
    child = subprocess.Popen(
        command("run", table, "--prompt", "A story of {review}", "--max-tokens", 40),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: Path(os.environ["GGUF_WIDGETS_HOME"], "store.sqlite3").exists(), "store")

        def some() -> bool:
            with Store() as store:
                return any(run.counts.done > 10 for run in runs(store=store))

        wait_for(some, "some rows")
        child.send_signal(signal.SIGINT)
        out, said = child.communicate(timeout=60)
    finally:
        child.kill()
    assert (child.returncode, out) == (130, "")
    assert "Traceback" not in said
    run_id, status, counts = only_run()
    assert status == "stopped"
    assert 10 < counts.done < 400
    again = f"run --resume {run_id[:8]}"
    assert f"gguf-widgets {again}" in said
    done = call(*again.split(), "--out", tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    frame = pd.read_json(tmp_path / "out.jsonl", lines=True)
    assert frame["status"].eq("done").all()
    assert frame["stars"].tolist() == list(range(400))


def test_in_the_background_it_is_watched_paused_and_stopped_from_elsewhere(
    tmp_path: Path, home: Path
) -> None:
    table = tmp_path / "many.csv"
    write(table, [(f"Emma and {i} lamps", "2024-01-05", i) for i in range(3000)])
    begun = call(
        "run", table, "--prompt", "A story of {review}", "--max-tokens", 40, "--background"
    )
    assert begun.returncode == 0, begun.stderr
    run_id = begun.stdout.strip()
    assert only_run()[0] == run_id
    assert "asked to pause" in call("runs", "--pause", run_id[:8]).stdout
    wait_for(lambda: only_run()[1] == "paused", "the pause")
    assert "paused" in call("runs").stdout
    call("runs", "--go-on", run_id[:8])
    wait_for(lambda: only_run()[1] == "running", "the end of the pause")
    watcher = subprocess.Popen(
        command("run", "--resume", run_id[:8]), stderr=subprocess.PIPE, text=True
    )
    assert watcher.stderr is not None
    assert "only watches" in watcher.stderr.readline()
    assert "stopped" in call("runs", "--stop", run_id[:8]).stdout
    _, said = watcher.communicate(timeout=60)
    assert watcher.returncode == 1
    assert "stopped" in said
    wait_for(lambda: not processes_of(home, "gguf_widgets.batch"), "the process's end")
    refused = call("runs", "--stop", run_id[:8])
    assert refused.returncode == 1
    assert "not being carried out" in refused.stderr


def test_requests_of_openais_batch_interface_come_back_in_its_layout(tmp_path: Path) -> None:
    def request(name: str, *turns: str, **body: Any) -> str:
        roles = ["system", "user", "assistant", "user"]
        messages = [{"role": r, "content": t} for r, t in zip(roles, turns, strict=False)]
        return json.dumps(
            {
                "custom_id": name,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "gpt-x", "messages": messages, "max_tokens": 8, **body},
            }
        )

    color = {"type": "json_schema", "json_schema": {"schema": {"enum": ["red", "green"]}}}
    asked = [
        request("one", "Be kind.", "Tell me a story about Emma."),
        request("two", "Be kind.", "Tell me a story about Emma.", n=3, temperature=1.9, seed=7),
        request("tools", "Be kind.", "Look it up", tools=[{"type": "function"}]),
        request("later", "Be kind.", "Hello", "Hi!", "Choose", response_format=color),
        request("again", "Be kind.", "Tell me a story about Emma."),
    ]
    path, out = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    path.write_text("\n".join(asked) + "\n")
    refused = call("run", path, "--prompt", "{prompt}")
    assert refused.returncode == 1
    assert "leave out --prompt" in refused.stderr
    done = call("run", path, "--out", out)
    assert done.returncode == 3, done.stderr
    lines = {one["custom_id"]: one for one in map(json.loads, out.read_text().splitlines())}
    assert list(lines) == ["one", "two", "tools", "later", "again"]
    replies = {
        name: [choice["message"]["content"] for choice in line["response"]["body"]["choices"]]
        for name, line in lines.items()
        if line["response"]
    }
    assert len(replies["one"]) == 1
    assert len(set(replies["two"])) > 1
    assert len(replies["two"]) == 3
    assert replies["later"][0] in ('"red"', '"green"')
    assert replies["again"] == replies["one"]
    assert "tools" in lines["tools"]["error"]["message"]
    # As a table each reply is a row.
    (newest, *_) = json.loads(call("runs", "--json").stdout)
    table = call("run", "--resume", newest["id"][:9], "--out", tmp_path / "table.csv")
    assert table.returncode == 3, table.stderr
    frame = pd.read_csv(tmp_path / "table.csv")
    assert frame["status"].value_counts().to_dict() == {"done": 6, "skipped": 6, "failed": 3}
    assert frame.loc[frame["custom_id"] == "two", "seed"].tolist() == [7, 8, 9]
