"""`reproducible` was called `repeatable`: whatever was kept under the old name is still read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gguf_widgets.batch.files.openai_requests import parse_request
from gguf_widgets.batch.spec import Spec
from gguf_widgets.core.chat.settings import ChatSettings
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.presets import checked
from gguf_widgets.core.settings import SamplingSettings
from gguf_widgets.core.store.json_values import struct_of
from gguf_widgets.core.store.store import Store

OLD = {"temperature": 0.0, "repeatable": True}


def test_keywords_presets_and_stored_rows() -> None:
    assert SamplingSettings.from_keywords(**OLD).reproducible
    preset = checked({"title": "Mine", "sampling": dict(OLD)})
    assert preset.sampling == {"temperature": 0.0, "reproducible": True}
    kept = struct_of(SamplingSettings, json.dumps(OLD))
    assert kept is not None
    assert kept.reproducible


def test_the_settings_of_a_chat_know_it_by_its_new_name_only(tmp_path: Path) -> None:
    settings = ChatSettings("text", None, {}, Store(tmp_path / "store.sqlite3"))
    settings.change(repeatable=True)
    assert settings.changes == {"reproducible": True}
    kept = settings.to_dict()
    kept["sampling"] = {"repeatable": True}
    settings.restore(kept)
    settings.reset("reproducible")
    assert not settings.sampling.reproducible


def test_a_batch_run_and_a_file_of_requests() -> None:
    spec = Spec.from_dict(
        {
            "version": 1,
            "prompts": [],
            "models": [],
            "sampling": OLD,
            "missing": "refuse",
            "num_samples": 1,
            "seed": 1,
        }
    )
    assert spec.sampling == {"temperature": 0.0, "reproducible": True}
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **OLD}
    request = parse_request(
        {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}, 1
    )
    assert request.sampling["reproducible"] is True
    assert not request.unsupported


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="the former name of 'reproducible'"):
        SamplingSettings.from_keywords(repeatable=True, reproducible=False)
