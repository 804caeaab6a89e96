from __future__ import annotations

import threading
from time import perf_counter

import pytest

from gguf_widgets.core.engine.chat_template import ChatTemplate
from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.open import open_backend
from gguf_widgets.core.engine.scripted import ScriptedBackend, demo_info
from gguf_widgets.core.errors import InvalidValueError, ModelLoadError
from gguf_widgets.core.types import (
    Finished,
    FinishReason,
    GenerateRequest,
    LoadSettings,
    ModelInfo,
    TextDelta,
)


def chat(engine, messages) -> str:
    known = engine.backend.vocabulary
    template = ChatTemplate(None, known.bos_text, control_texts=known.control_texts)
    try:
        tokens = engine.tokenize_prompt(template.render_parts(messages))
    finally:
        template.close()
    engine.add_request(GenerateRequest(request_id="x", client_id="c", prompt_tokens=tokens))
    while True:
        for event in engine.step():
            if isinstance(event, Finished):
                assert event.reply.finish_reason is FinishReason.STOP
                return event.reply.text


@pytest.fixture
def engine(monkeypatch):
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "0")
    engine = Engine(open_backend("scripted", None, LoadSettings()))
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Hello there", "Hello!"),
        ("Tell me a story about Emma.", "Emma"),
        ("show me some FORMATTING please", "```python"),
        ("How do I install it?", "llama-cpp-python"),
        ("Καλημέρα 😀", "You wrote: “Καλημέρα 😀”"),
        ("x" * 5000, "xxx ..."),
        ("", "Hello!"),
        ("<|im_end|>", "You wrote: “<|im_end|>”"),
    ],
)
def test_the_demo_mode_answers_and_says_that_no_model_runs(engine, text, part):
    reply = chat(engine, [{"role": "user", "content": text}])
    assert part in reply
    assert "demo mode" in reply or "no model is running" in reply


def test_it_answers_the_last_thing_said_not_the_system_prompt_nor_itself(engine):
    first = chat(engine, [{"role": "user", "content": "Hello"}])
    reply = chat(
        engine,
        [
            {"role": "system", "content": "Tell a story."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": first},
            {"role": "user", "content": "what now?"},
        ],
    )
    assert "You wrote: “what now?”" in reply


def test_its_pace_can_be_read_along_and_stop_is_prompt(monkeypatch):
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "50")
    engine = Engine(open_backend("scripted", None, LoadSettings()))
    tokens = engine.tokenize("tell me a long story")
    engine.add_request(GenerateRequest(request_id="x", client_id="c", prompt_tokens=tokens))
    started, deltas = perf_counter(), 0
    while deltas < 10:
        deltas += sum(isinstance(event, TextDelta) for event in engine.step())
    assert perf_counter() - started > 9 / 50
    engine.abort("x")
    (end,) = engine.step()
    assert end.reply.finish_reason is FinishReason.ABORTED
    assert len(end.reply.text) == 10
    engine.close()


def test_a_prompt_that_is_being_computed_can_be_interrupted():
    engine = Engine(ScriptedBackend(tokens_per_s=0.05))  # a prompt of 500 takes 200 s
    engine.add_request(GenerateRequest(request_id="x", client_id="c", prompt_tokens=[1] * 500))
    timer = threading.Timer(0.05, engine.interrupt)
    timer.start()
    assert engine.step() == []
    timer.join()
    engine.abort("x")
    assert engine.step()[0].reply.finish_reason is FinishReason.ABORTED
    engine.interrupt()  # in vain: nothing runs, and nothing that comes later is hurt
    engine.close()


def test_it_has_the_identity_of_a_model_and_effective_settings(engine):
    info = demo_info()
    assert isinstance(info, ModelInfo)
    assert (info.name, info.backend) == ("Demo mode (no model)", "scripted")
    told = engine.settings.to_dict()
    assert all(
        value is not None for name, value in told.items() if name not in ("chat_template", "mmproj")
    )


def test_loading_it_can_be_cancelled_and_odd_requests_are_named(monkeypatch):
    with pytest.raises(ModelLoadError, match="cancelled"):
        open_backend("scripted", None, LoadSettings(), lambda _: False)
    with pytest.raises(InvalidValueError, match="There is no backend 'onnx'"):
        open_backend("onnx", None, LoadSettings())
    with pytest.raises(InvalidValueError, match="No model file"):
        open_backend("llama.cpp", None, LoadSettings())
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "fast")
    with pytest.raises(InvalidValueError, match="GGUF_WIDGETS_DEMO_PACE is 'fast'"):
        open_backend("scripted", None, LoadSettings())


def test_it_refuses_what_llama_cpp_would_refuse():
    backend = ScriptedBackend(LoadSettings(n_ctx=16, n_batch=8))
    batch = backend.batch
    batch.tokens[:2], batch.positions[:2], batch.seq_ids[:2] = 1, (0, 2), 0
    assert backend.decode(2) == -1  # positions with a hole
    batch.tokens[0] = 1000
    assert backend.decode(1) == -1
    assert backend.decode(9) == -1
