"""Whatever is not as it was recorded is named, with what it was and what it is. About 20 s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.altered import alter
from support.tiny_model import CHATML, write_tiny_model

from gguf_widgets.core.manager import ModelManager
from gguf_widgets.experiments import Experiment, load_experiment
from gguf_widgets.experiments.changes import in_programs
from gguf_widgets.experiments.replay import Replay

SETTINGS: dict[str, Any] = {
    "max_tokens": 12,
    "temperature": 0.7,
    "seed": 11,
    "reproducible": True,
}
LOAD = {"n_ctx": 512, "n_seq_max": 2, "n_threads": 1, "n_batch": 256, "n_ubatch": 256}


@pytest.fixture
def recorded(manager: ModelManager, tmp_path: Path) -> Experiment:
    model = manager.load(write_tiny_model(tmp_path / "tiny.gguf", n_ctx_train=4096), **LOAD)
    with Experiment("Changes", keep=False) as experiment:
        model.chat("Hello there", **SETTINGS)
    # It stays loaded, so that replays with the same settings join it.
    return experiment


def names(replay: Replay) -> list[str]:
    assert replay.num_missing == 0, replay.words
    return [change.name for change in replay.changes]


SAMPLING: list[tuple[str, Any, str]] = [
    ("temperature", 1.9, "temperature was 0.7 and is 1.9 now."),
    ("seed", 12, "seed was 11 and is 12 now."),
    ("top_k", 1, "top_k was 40 and is 1 now."),
    ("top_p", 0.1, "top_p was 0.95 and is 0.1 now."),
    ("min_p", 0.9, "min_p was 0.05 and is 0.9 now."),
    ("repeat_penalty", 1.5, "repeat_penalty was 1.0 and is 1.5 now."),
    ("max_tokens", 3, "max_tokens was 12 and is 3 now."),
    ("stop", ("a", "e", "t"), "stop was () and is ('a', 'e', 't') now."),
    ("logit_bias", {5: 90.0}, "logit_bias was {} and is {5: 90.0} now."),
    ("mirostat", 2, "mirostat was 0 and is 2 now."),
    ("reproducible", False, "reproducible was True and is False now."),
]
LOADING: list[tuple[str, Any, str]] = [
    ("n_ctx", 1024, "n_ctx was 512 and is 1024 now."),
    ("n_threads", 2, "n_threads was 1 and is 2 now."),
    ("n_batch", 300, "n_batch was 256 and is 300 now."),
    ("n_ubatch", 64, "n_ubatch was 256 and is 64 now."),
    ("n_seq_max", 5, "n_seq_max was 2 and is 5 now."),
    ("kv_unified", False, "kv_unified was True and is False now."),
    ("type_k", "f32", "type_k was f16 and is f32 now."),
]


def test_every_altered_setting_is_named_alone(recorded: Experiment, manager: ModelManager) -> None:
    assert names(recorded.replay(manager=manager)) == []
    for name, value, words in SAMPLING:
        replay = recorded.replay(sampling={name: value}, manager=manager)
        assert names(replay) == [name]
        assert words in [change.words for change in replay.changes]
    for name, value, words in LOADING:
        replay = recorded.replay(load={name: value}, manager=manager)
        assert names(replay) == [name]
        assert words in [change.words for change in replay.changes]


def test_what_decides_the_text_says_where_it_changed(
    recorded: Experiment, manager: ModelManager
) -> None:
    replay = recorded.replay(sampling={"seed": 12}, manager=manager)
    (row,) = replay.rows
    assert replay.same is False
    assert row.token is not None
    assert "What differs besides: seed was 11 and is 12 now." in replay.words
    assert f"It differs from token {row.token + 1} on:" in row.words
    text = (row.then or "", row.now or "")
    assert row.character is not None
    assert text[0][: row.character] == text[1][: row.character]


def test_another_file_template_or_prompt_is_named(
    recorded: Experiment, manager: ModelManager, tmp_path: Path
) -> None:
    other = write_tiny_model(tmp_path / "other.gguf", seed=4, n_ctx_train=4096)
    replay = recorded.replay(model=other, manager=manager)
    assert names(replay) == ["model"]
    assert "The model was “tiny”" in replay.words
    template = CHATML.replace("assistant", "model")
    other = write_tiny_model(tmp_path / "tiny2.gguf", n_ctx_train=4096, chat_template=template)
    replay = recorded.replay(model=other, manager=manager)
    assert {"template", "prompt", "model"} == set(names(replay))
    assert "The chat template was another one." in replay.words

    path = recorded.save(tmp_path / "x.json")

    def ask_otherwise(document: dict[str, Any]) -> None:
        document["items"][0]["prompt"]["messages"][0]["content"] = "Hello here"

    found = load_experiment(alter(path, ask_otherwise))
    replay = found.replay(manager=manager)
    assert names(replay) == ["record", "prompt"]
    assert "This record was changed after it was saved: item 1 (prompt)." in replay.words
    assert "What the model read was not the same, from token" in replay.words


def test_program_and_machine_are_named() -> None:
    then = {
        "package": "0.1.0",
        "engine": "0.3.30",
        "engine_files": "a",
        "processor": "One",
        "system": "Linux x86_64",
        "cards": [],
    }
    assert in_programs(then, dict(then)) == []
    for name, value, key in (
        ("package", "0.2.0", "package"),
        ("engine", "0.3.31", "engine"),
        ("engine_files", "b", "engine_files"),
        ("processor", "Other", "processor"),
        ("system", "Darwin arm64", "system_kind"),
        ("cards", [{"name": "CUDA0", "description": "A card"}], "cards"),
    ):
        (found,) = in_programs(then, {**then, name: value})
        assert found.name == key
    assert in_programs({**then, "cards": None}, then) == [], "what is not known is not compared"


def test_a_record_of_this_program_with_another_engine_says_so(
    recorded: Experiment, manager: ModelManager
) -> None:
    program = {**recorded.record.program, "engine": "0.0.1", "processor": "An abacus"}
    replay = Replay(msgspec.structs.replace(recorded.record, program=program), manager=manager)
    replay.start().wait()
    assert names(replay) == ["engine", "processor"]
    assert replay.same
    assert "That although something differs: llama-cpp-python was 0.0.1" in replay.words
