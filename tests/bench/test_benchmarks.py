"""The benchmarks run, judge and report rightly; how fast anything is, is not looked at here."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from bench import report, vocabulary
from bench.contestants import Setup, Work
from bench.harness import Runner
from bench.models import bench_model
from bench.results import Finding, Results, Saved
from bench.rows import RowMaker
from gguf import GGUFReader
from support.tiny_model import write_tiny_model

FOLDER = Path(__file__).parent
SCRIPTS = sorted(path.stem for path in FOLDER.glob("bench_*.py"))


def options(folder: Path, *, tiny: bool = False, quick: bool = False) -> argparse.Namespace:
    return argparse.Namespace(results=folder, tiny=tiny, quick=quick, busy=False)


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_benchmark_runs_and_leaves_its_results(script: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / f"{script}.py", "--tiny", "--busy", "--results", tmp_path],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    name = script.removeprefix("bench_")
    assert name in report.TITLES  # or it would be missing in the README
    saved = msgspec.json.decode((tmp_path / f"{name}.json").read_bytes(), type=Saved)
    assert saved.mode == "tiny"
    assert saved.findings
    peer_is_here = importlib.util.find_spec("xllamacpp") is not None
    for finding in saved.findings:
        assert finding.ours or (finding.peer == "xllamacpp" and not peer_is_here)
        assert finding.what in done.stdout
    if script == "bench_batch" and not peer_is_here:
        assert "xllamacpp is not installed" in done.stdout


@pytest.mark.parametrize(
    ("ratio", "goal", "less", "strict", "reached"),
    [
        (1.8, 1.8, False, False, True),
        (1.79, 1.8, False, False, False),
        (1.0, 1.0, False, True, False),
        (1.001, 1.0, False, True, True),
        (50.0, 50.0, True, False, True),
        (50.1, 50.0, True, False, False),
        (None, 1.8, False, False, False),
        (0.1, None, False, False, None),
    ],
)
def test_a_goal_that_is_missed_or_not_measured_is_a_failure(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ratio: float | None,
    goal: float | None,
    less: bool,
    strict: bool,
    reached: bool | None,
) -> None:
    results = Results("some", options(tmp_path))
    good = Finding(what="good", ours="1", ratio=2.0, goal=1.0)
    results.add(good)
    finding = Finding(
        what="it", ours="1", ratio=ratio, goal=goal, less_is_better=less, strict=strict
    )
    results.add(finding)
    assert finding.reached is reached
    assert results.finish() == (1 if reached is False else 0)
    said = capsys.readouterr().out
    assert ("missed: it" in said) is (reached is False)
    saved = msgspec.json.decode((tmp_path / "some.json").read_bytes(), type=Saved)
    assert saved.mode == "full"
    assert saved.findings == [good, finding]


def test_a_contestant_that_does_less_or_dies_gives_no_figure() -> None:
    model = bench_model("tiny")
    work = RowMaker(model.path).json_work(2, model, num_own=8)
    setup = Setup(path=model.path, n_slots=2, n_row=128)
    with Runner("the engine", "engine", setup) as runner:
        outcome = runner.run(work)
        assert (outcome.num_rows, outcome.num_new) == (2, 2 * len(model.wanted))
        assert 0 < outcome.in_decode_s < outcome.seconds
        # It ends its reply where the text ends, so it cannot write twice as much.
        with pytest.raises(RuntimeError, match="the engine wrote"):
            runner.run(msgspec.structs.replace(work, num_new=2 * work.num_new))
        with pytest.raises(RuntimeError, match="its last words"):
            runner.run(Work(prompts=[[10**6]], texts=[""], num_new=1))
    with pytest.raises(RuntimeError, match=r"missing\.gguf"):
        Runner("the engine", "engine", msgspec.structs.replace(setup, path="missing.gguf"))


def test_rows_have_as_many_tokens_as_asked_and_common_ones_where_asked() -> None:
    maker = RowMaker(bench_model("tiny").path)
    work = maker.work(5, num_own=16, num_new=4, num_shared=24, seed=3)
    assert {len(prompt) for prompt in work.prompts} == {40}
    beginnings = {tuple(prompt[:24]) for prompt in work.prompts}
    assert len(beginnings) == 1
    assert len({tuple(prompt[24:]) for prompt in work.prompts}) == 5
    assert [maker.text(prompt) for prompt in work.prompts] == work.texts
    other = maker.work(5, num_own=16, num_new=4, num_shared=24, seed=4)
    assert {tuple(prompt[:24]) for prompt in other.prompts}.isdisjoint(beginnings)


def test_a_vocabulary_is_copied_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_tiny_model(tmp_path / "vocab-some.gguf")
    monkeypatch.setattr(vocabulary, "FOLDER", tmp_path)
    copied = vocabulary.real_vocabulary("some")
    texts = GGUFReader(source).fields["tokenizer.ggml.tokens"].contents()
    assert [copied.tokens[texts.index(word)] for word in ("the", "Ġthe")] == [b"the", b" the"]
    control = [texts.index(text) for text in ("<|endoftext|>", "<|im_end|>")]
    assert copied.eog == set(control)
    assert copied.eos == control[1]
    assert [copied.tokens[token] for token in control] == [b"", b""]
    assert vocabulary.vocabulary_file("another") is None


@pytest.fixture
def measured(tmp_path: Path) -> dict[str, Saved]:
    results = Results("some", options(tmp_path), "64 tokens")
    results.add(Finding(what="rows", ours="2 rows/s", peer="peer 1", ratio=2.0, goal=3.0))
    results.add(Finding(what="aside", ours="5", in_readme=False))
    results.finish()
    saved = msgspec.json.decode((tmp_path / "some.json").read_bytes(), type=Saved)
    return dict.fromkeys(report.TITLES, saved)


def test_the_report_holds_what_was_measured_and_hides_no_miss(measured: dict[str, Saved]) -> None:
    text = report.section(measured)
    assert "| rows | 2 rows/s | peer 1 |  | at least 3: **missed** |" in text
    assert "aside" not in text
    assert measured["batch"].machine.processor in text
    readme = "# A\n\n## Speed\n\nold\n\n## B\n\nkept\n"
    assert report.replaced(readme, text) == f"# A\n\n{text}\n## B\n\nkept\n"
    with pytest.raises(report.ReportError, match="no section"):
        report.replaced("# A\n", text)


def test_no_report_is_made_of_parts_that_do_not_belong_together(
    measured: dict[str, Saved],
) -> None:
    replace = msgspec.structs.replace
    with pytest.raises(report.ReportError, match=r"no results of bench_json\.py"):
        report.section({name: one for name, one in measured.items() if name != "json"})
    quick = replace(measured["json"], mode="quick")
    with pytest.raises(report.ReportError, match=r"Not measured in full: json \(quick\)"):
        report.section({**measured, "json": quick})
    elsewhere = replace(quick, mode="full", machine=replace(quick.machine, num_cores=64))
    with pytest.raises(report.ReportError, match="different machines"):
        report.section({**measured, "json": elsewhere})
