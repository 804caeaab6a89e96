"""`gguf-widgets bench` as people and programs meet it. About 15 s."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.bench_rows import make_row
from support.tiny_models import write_model

from gguf_widgets.cli import main
from gguf_widgets.core import config
from gguf_widgets.core.bench.kept import KeptRows
from gguf_widgets.core.store.store import Store
from tests.core.conftest import processes_of

QUICK = ["-p", "16", "-n", "8", "-r", "2"]


@pytest.fixture(autouse=True)
def none_left(home: Path) -> Iterator[None]:
    """Let no process outlive its test."""
    yield
    left = processes_of(home)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, 20)


@pytest.fixture(autouse=True)
def tiny(home: Path) -> Path:
    pytest.importorskip("llama_cpp")
    return write_model(config.ensure(config.models_dir()) / "tiny.gguf", "llama")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "gguf_widgets", "bench", *map(str, arguments)]


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), check=False, capture_output=True, text=True, timeout=120
    )


def test_a_table_on_standard_output_and_all_else_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "speeds.json"
    done = call("tiny", "nosuch", *QUICK, "-d", "0,20", "-s", "1,2", "-pg", "8,4", "--out", out)
    assert done.returncode == 3, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        "Model", "Size", "Parameters", "Backend", "Threads", "Test", "Tokens/s", "Each",
    ]  # fmt: skip
    assert [line.split("  ")[0] for line in lines[1:13]] == ["tiny F32"] * 12
    assert "pp8+tg4 @ d20 x 2" in lines[12]
    assert "llama-cpp-python" in lines[-1]
    assert done.stderr.count('nosuch: There is no model called "nosuch"') == 1
    assert f"Written: {out}" in done.stderr
    assert len(json.loads(out.read_text("utf-8"))["results"]) == 12
    # For programs; and a second time it stands beside the first.
    again = call("tiny", *QUICK, "-t", "1,2", "-o", "csv", "--quiet")
    assert again.returncode == 0, again.stderr
    rows = list(csv.DictReader(io.StringIO(again.stdout)))
    assert [(row["test"], row["n_threads"]) for row in rows] == [
        ("pp16", "1"), ("tg8", "1"), ("pp16", "2"), ("tg8", "2"),
    ]  # fmt: skip
    assert any(row["compared"] for row in rows)
    assert call("--history", "TIN", "-o", "json").stdout.count('"test":') == 16


def test_ctrl_c_prints_and_keeps_what_was_measured(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w+") as said:
        process = subprocess.Popen(
            command("tiny", "-p", "16", "-n", "300", "-r", "1000", "-o", "json"),
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        # Once the first test is kept; the second would take minutes.
        with Store() as store:
            from tests.core.conftest import wait_for

            wait_for(lambda: KeptRows(store).rows(), "the first test is kept")
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        assert json.loads(printed)["results"][0]["test"] == "pp16"
        said.seek(0)
        assert "Stopped. What had been measured is printed and kept." in said.read()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nosuch"], 1, 'There is no model called "nosuch"'),
        (["-p", "x"], 2, "'x' is no list of such values"),
        (["-pg", "5"], 2, "'5' is no pair of numbers"),
        (["-fa", "2"], 2, "'2' is no list of such values"),
        (["-p", "0", "-n", "0"], 1, "There is nothing to measure"),
        (["-r", "0"], 1, "repetitions is 0"),
        (["-t", "0"], 1, "n_threads is 0"),
        (["--replace"], 1, "--replace goes with --out FILE"),
        (["--out", "speeds.xml"], 1, "does not say by its ending"),
        (["--out", "nosuch/speeds.md"], 1, "There is no folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(
    arguments: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given: Any = ["bench", "--quiet", *arguments]
    try:
        found = main(given)
    except SystemExit as error:
        found = int(str(error.code))
    assert found == status
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""


def test_the_history_is_listed_in_every_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--history"]) == 0
    assert "No speed has been measured here yet" in capsys.readouterr().out
    from gguf_widgets.core.bench.machine import this_machine

    with Store() as store:
        KeptRows(store).add(make_row(machine=this_machine()))
        KeptRows(store).add(make_row())  # another machine's
    out = tmp_path / "history.md"
    assert main(["bench", "--history", "-o", "md", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed == out.read_text("utf-8")
    assert printed.count("| tg128 |") == 1
    assert main(["bench", "--history", "other"]) == 0
