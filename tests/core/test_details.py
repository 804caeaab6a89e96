"""What is told of a model before it is loaded: facts, template, and memory by length of context."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.big_model import write_big_model
from support.gguf_writer import Typed, model_bytes

from gguf_widgets.core.details import details
from gguf_widgets.core.errors import ModelFileError
from gguf_widgets.core.fit import check_fits, choose_settings
from gguf_widgets.core.gguf import read_header
from gguf_widgets.demo import demo_model_path

GB = 10**9


def big_model(folder: Path, **changes: Typed) -> Path:
    return write_big_model(folder / "model.gguf", weights=4 * GB, **changes)


def test_memory_by_context_is_what_a_load_would_be_judged_by(tmp_path: Path) -> None:
    path = big_model(tmp_path)
    free = 7 * GB
    found = details(path, free_bytes=free)
    header = read_header(path)
    chosen, _ = choose_settings(header, free_bytes=free)
    assert [point.n_ctx for point in found.points] == sorted(
        {point.n_ctx for point in found.points}
    )
    assert found.points[0].n_ctx == 512
    assert found.points[-1].n_ctx == 32768
    assert found.chosen_ctx == chosen.n_ctx
    assert any(point.n_ctx == found.chosen_ctx and point.fits for point in found.points)
    assert {point.fits for point in found.points} == {True, False}
    for point in found.points:
        settings = chosen.replace(n_ctx=point.n_ctx)
        need = check_fits(header, settings, free_bytes=100 * GB)
        assert point.total_bytes == need.total_bytes
        assert point.fits == (need.main_bytes <= free)
    weights = {point.weights_bytes for point in found.points}
    assert len(weights) == 1
    caches = [point.kv_bytes / point.n_ctx for point in found.points]
    assert caches == pytest.approx([caches[0]] * len(caches))


def test_facts_are_plain_lines_and_what_is_cut_is_told(tmp_path: Path) -> None:
    hostile = "Emma\x1b[31m\n" + "x" * 1000
    template = "{{ messages }}" + "-" * 60_000
    path = big_model(
        tmp_path,
        general__author=Typed("string", hostile),
        general__url=Typed("string", "javascript:alert(1)"),
        tokenizer__chat_template=Typed("string", template),
    )
    found = details(path, free_bytes=GB)
    facts = dict(found.facts)
    assert facts["Author"].startswith("Emma")
    assert len(facts["Author"]) <= 301
    assert "\n" not in facts["Author"]
    assert "\x1b" not in facts["Author"]
    assert facts["Address"] == "javascript:alert(1)"  # a text among texts
    assert template.startswith(found.template)
    assert len(found.template) == 50_000
    assert found.template_note == "The first 50,000 of its 60,014 characters."
    assert not any(point.fits for point in found.points)


def test_the_demo_and_a_model_without_a_template(tmp_path: Path) -> None:
    found = details(demo_model_path())
    assert dict(found.facts)["Architecture"].startswith("llama")
    assert found.template
    assert found.template_note == ""
    assert sum(size for *_, size in found.tensor_types) <= demo_model_path().stat().st_size
    assert all(point.fits for point in found.points)
    plain = tmp_path / "plain.gguf"
    plain.write_bytes(model_bytes(tokenizer__chat_template=Typed("string", "")))
    assert details(plain).template == ""
    assert "no chat template" in details(plain).template_note


def test_what_is_no_model_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"no")
    with pytest.raises(ModelFileError):
        details(path)
    with pytest.raises(ModelFileError):
        details(tmp_path / "nowhere.gguf")
