"""`gguf_widgets.bench` with real workers: what goes on, what is said, and what is kept."""

from __future__ import annotations

import _thread
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.tiny_embedding import write_bert
from support.tiny_models import write_model

from gguf_widgets.core import config
from gguf_widgets.core.bench import BenchResult, bench, bench_history
from gguf_widgets.core.bench.machine import this_machine
from gguf_widgets.core.errors import InvalidValueError, ModelNotFoundError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.store import Store
from tests.core.conftest import processes_of

QUICK: dict[str, Any] = {"n_prompt": 16, "n_gen": 8, "repetitions": 2, "progress": False}
LONG = 800  # tokens to write: some tenths of a second


@pytest.fixture
def tiny(no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("llama_cpp")
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "llama.cpp")
    return write_model(config.ensure(config.models_dir()) / "tiny.gguf", "llama")


def names(result: BenchResult) -> list[tuple[str, str]]:
    return [(row.model.label, row.test.name) for row in result]


def test_models_one_after_another_and_those_that_fail_are_said(
    tiny: Path, store: Store, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"GGUF" + b"\xff" * 100)
    vectors = write_bert(tmp_path / "vectors.gguf")
    result = bench(["nosuch", "tiny", junk, vectors, tiny], store=store, **QUICK)
    assert result.status == "done"
    assert names(result) == [("tiny", "pp16"), ("tiny", "tg8")]
    failed = {(one.model, one.test): one for one in result.failures}
    assert failed["nosuch", ""].kind == "ModelNotFoundError"
    assert failed["junk.gguf", ""].kind.endswith("Error")
    assert {one.kind for one in result.failures if one.model == "vectors"} == {
        "UnsupportedByModelError"
    }
    assert f"{tiny} is there twice with the same settings; it is measured once." in result.notes
    row = result.rows[0]
    assert row.is_whole
    assert row.avg_tok_per_s > 0
    assert (len(row.samples), row.machine) == (2, this_machine())
    assert row.seconds[0] == pytest.approx(16 / row.samples[0])
    # Kept, and the next one stands beside it.
    again = bench("tiny", store=store, **QUICK)
    assert [one.change is not None for one in again] == [True, True]
    history = bench_history(store=store)
    assert [one.bench_id for one in history] == [again.id] * 2 + [result.id] * 2
    assert [one.test.name for one in bench_history(store=store, test="tg8")] == ["tg8"] * 2
    assert bench_history(store=store, model="TIN", bench_id=result.id)[0].model.name == "tiny"
    assert bench_history(store=store, model="other") == []


def test_the_only_model_that_fails_raises_its_error(tiny: Path, store: Store) -> None:
    with pytest.raises(ModelNotFoundError, match="nosuch"):
        bench("nosuch", store=store, **QUICK)
    # In the background nothing is raised.
    result = bench("nosuch", store=store, wait=False, **QUICK).wait(60)
    assert (result.status, len(result), len(result.failures)) == ("failed", 0, 1)
    assert "could not be measured" in str(result.progress)


def test_variants_are_told_apart(tiny: Path, store: Store) -> None:
    variants = [{"n_threads": 1}, {"n_threads": 2}, {"n_threads": 1}]
    result = bench("tiny", variants=variants, store=store, n_ubatch=64, **QUICK)
    assert [(one.model.label, one.model.settings["n_threads"]) for one in result.rows[::2]] == [
        ("tiny (n_threads=1)", 1),
        ("tiny (n_threads=2)", 2),
    ]
    assert {one.model.settings["n_ubatch"] for one in result} == {64}
    assert "measured once" in result.notes[0] or "measured once" in result.notes[1]
    assert result.to_frame()["n_threads"].tolist() == [1, 1, 2, 2]


def test_a_loaded_model_is_measured_as_it_is_and_stays(tiny: Path, store: Store) -> None:
    with ModelManager(keep_alive=0) as manager, manager.load(tiny, n_ctx=64, n_seq_max=1) as model:
        given = {**QUICK, "n_prompt": [16, 512], "n_gen": 0, "n_seq": [1, 2]}
        result = bench([model, model], store=store, **given)
        assert names(result) == [("tiny", "pp16")]
        assert {one.test: one.kind for one in result.failures} == dict.fromkeys(
            ["pp512", "pp16 x 2", "pp512 x 2"], "ContextOverflowError"
        )
        assert "needs 514 tokens of context, and the model is loaded with 256" in str(result)
        assert "needs 2 sequences at once, and the model is loaded for 1" in str(result)
        assert model.complete("Hello", max_tokens=1).usage.num_completion_tokens == 1
        with pytest.raises(InvalidValueError, match=r"loaded already.*n_threads cannot be given"):
            bench(model, n_threads=1, store=store)


def when(text: str, act: Callable[[], object]) -> Callable[[BenchResult], None]:
    """Return an observer that does something once, when the progress says this."""
    done: list[bool] = []

    def look(result: BenchResult) -> None:
        if not done and text in str(result.progress):
            done.append(True)
            act()

    return look


def test_stop_keeps_what_was_measured_in_the_middle_of_a_test(tiny: Path, store: Store) -> None:
    given = {**QUICK, "n_gen": [8, LONG], "repetitions": 100}
    result = bench("tiny", store=store, wait=False, **given)
    result.observe(when(f"tg{LONG}, 2 of 100", lambda: result.stop(wait=False)))
    assert result.wait(120).status == "stopped"
    assert [one.test.name for one in result] == ["pp16", "tg8", f"tg{LONG}"]
    row = result.rows[-1]
    assert 1 <= len(row.samples) < 100
    assert f"Stopped after {len(row.samples)} of 100 repetitions." in result.notes[-1] + str(result)
    assert [one.test.name for one in bench_history(store=store)] == [f"tg{LONG}", "tg8", "pp16"]
    assert "stopped after" in str(result.progress)


def test_an_interrupt_while_it_is_waited_for_stops_it(
    tiny: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = BenchResult.start

    def observed(self: BenchResult, *arguments: Any) -> None:
        self.observe(when("2 of 100", _thread.interrupt_main))
        start(self, *arguments)

    monkeypatch.setattr(BenchResult, "start", observed)
    given = {**QUICK, "n_prompt": 0, "n_gen": LONG, "repetitions": 100}
    result = bench("tiny", store=store, **given)
    assert result.status == "stopped"
    assert 1 <= len(result.rows[0].samples) < 100


def test_a_worker_that_dies_costs_its_test_and_no_other(
    tiny: Path, store: Store, home: Path
) -> None:
    def kill() -> None:
        for process in processes_of(home, "gguf_widgets.core.worker"):
            process.kill()

    result = bench("tiny", store=store, wait=False, **{**QUICK, "n_gen": [LONG, 8]})
    result.observe(when(f"tg{LONG}, 1 of 2", kill))
    result.wait(120)
    assert names(result) == [("tiny", "pp16"), ("tiny", "tg8")]
    assert [(one.test, one.kind) for one in result.failures] == [(f"tg{LONG}", "WorkerDiedError")]
    assert result.status == "done"


def test_a_store_that_cannot_be_written_is_said_and_costs_nothing(tiny: Path, home: Path) -> None:
    closed = Store(home / "other.sqlite")
    closed.close()
    result = bench("tiny", store=closed, **QUICK)
    assert len(result) == 2
    assert sum("could not be kept" in note for note in result.notes) == 1


def test_the_demo_mode_says_that_it_measures_nothing_and_keeps_nothing(
    no_leaks: None, scripted: None, store: Store
) -> None:
    result = bench("demo", store=store, depths=[0, 8], n_seq=[1, 2], **QUICK)
    assert len(result) == 8
    assert not result.failures
    assert any("demo mode, which runs no model" in note for note in result.notes)
    assert bench_history(store=store) == []


def test_an_observer_that_fails_costs_nothing_and_unknown_keywords_are_refused(
    tiny: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    result = bench("tiny", store=store, wait=False, **QUICK)
    result.observe(lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    assert len(result.wait(60)) == 2
    for given, words in (
        ({"n_thread": 2}, "Did you mean 'n_threads'"),
        ({"repetitions": 0}, "repetitions is 0"),
        ({"delay_s": -1}, "delay_s is -1"),
        ({"models": []}, "the list is empty"),
        ({"models": [5]}, "5 is none"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            bench(**{"store": store, **given})


def test_what_is_written_can_be_read_and_is_not_written_over(
    tiny: Path, store: Store, tmp_path: Path
) -> None:
    result = bench(["tiny", "nosuch"], store=store, **QUICK)
    path = result.save(tmp_path / "speeds.json")
    read = json.loads(path.read_text("utf-8"))
    assert [one["test"] for one in read["results"]] == ["pp16", "tg8"]
    assert read["failures"][0]["error"] == "ModelNotFoundError"
    assert read["results"][0]["samples_tok_per_s"] == result.rows[0].samples
    with pytest.raises(InvalidValueError, match="is there already"):
        result.save(path)
    result.save(path, replace=True)
    with pytest.raises(InvalidValueError, match=r"Known are \.csv, \.json, \.md"):
        result.save(tmp_path / "speeds.xml")
    with pytest.raises(InvalidValueError, match="cannot be written"):
        result.save(tmp_path / "no folder" / "speeds.md")
    assert "| pp16 |" in result.save(tmp_path / "speeds.md").read_text("utf-8")
    assert "nosuch: There is no model" in result.to_markdown()
    with contextlib.suppress(OSError):
        path.unlink()
