"""``gguf-widgets replay``: what it prints and what its exit status says. About 8 s."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.altered import alter
from support.tiny_model import write_tiny_model

from gguf_widgets.cli import main
from gguf_widgets.core.manager import ModelManager, default_manager
from gguf_widgets.experiments import Experiment
from tests.core.conftest import processes_of, wait_for


@pytest.fixture
def recorded(home: Path, tmp_path: Path) -> Iterator[Path]:
    path = write_tiny_model(tmp_path / "tiny.gguf")
    with ModelManager(keep_alive=0.5) as manager:
        with (
            manager.load(path, n_ctx=256, n_threads=1) as model,
            Experiment("From the command line") as experiment,
        ):
            for text in ("Hello", "Bye"):
                model.chat(text, max_tokens=6, temperature=0.5, reproducible=True)
        yield experiment.save(tmp_path / "x.json")
        default_manager().close()
        wait_for(lambda: not processes_of(home, "gguf_widgets.core.worker"), "the workers' end")


def test_the_same_is_status_0_and_something_else_is_1(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(recorded)]) == 0
    assert capsys.readouterr().out == "All 2 answers are the same, to the last token.\n"
    assert main(["replay", str(recorded), "--rows", "--load", "n_ctx=512"]) == 0
    printed = capsys.readouterr().out
    assert "That although something differs: n_ctx was 256 and is 512 now." in printed
    assert "same         answer 1 (“Hello”)" in printed
    assert main(["replay", str(recorded), "--set", "temperature=3", "--set", "seed=1"]) == 1
    printed = capsys.readouterr().out
    assert "2 of 2 answers differ." in printed
    assert "temperature was 0.5 and is 3.0 now." in printed
    assert printed.count("\n  different    answer") == 2


def test_programs_get_json_and_the_list_has_ids(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["title"] == "From the command line"
    assert main(["replay", listed["id"][:8], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["same"] is True
    assert found["strict"] is True
    assert [row["state"] for row in found["rows"]] == ["same", "same"]
    assert main(["replay"]) == 0
    assert listed["id"][:8] in capsys.readouterr().out
    changed = alter(recorded, lambda d: d["items"][0]["answer"].update(text="No", tokens=[1]))
    assert main(["replay", str(changed), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["changes"][0]["name"] == "record"
    assert "item 1 (answer)" in found["changes"][0]["words"]


def test_what_cannot_be_said_is_status_2(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(tmp_path / "nothing.json")]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err
    newer = alter(recorded, lambda document: document.update(version=9))
    assert main(["replay", str(newer)]) == 2
    assert "from a newer version" in capsys.readouterr().err
    assert main(["replay", str(recorded), "--set", "temperature"]) == 2
    assert "it should be NAME=VALUE" in capsys.readouterr().err
    assert main(["replay", str(recorded), "--set", "flavour=1"]) == 2
    assert "There is no setting called 'flavour'" in capsys.readouterr().err
    assert main(["replay", str(recorded), "--model", "other=demo"]) == 2
    assert "has no model 'other'" in capsys.readouterr().err
    (tmp_path / "tiny.gguf").unlink()
    assert main(["replay", str(recorded)]) == 2
    printed = capsys.readouterr()
    assert "No answer was repeated." in printed.out
    assert "is not on this machine" in printed.out
