from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.preferences import LAST_MODEL, Preferences
from gguf_widgets.core.store.store import Store


def test_values_come_back_in_another_process(home: Path) -> None:
    value = {"path": "/models/é.gguf", "settings": {"n_ctx": 4096, "flash_attn": None}}
    with Store() as store:
        Preferences(store).set(LAST_MODEL, value)
    code = "from gguf_widgets.core.preferences import *; print(Preferences().get('last_model'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr(value)


def test_get_set_delete(home: Path) -> None:
    with Store() as store:
        preferences = Preferences(store)
        assert preferences.get("open_tab", "Chat") == "Chat"
        preferences.set("open_tab", "Speed")
        preferences.set("open_tab", None)
        assert preferences.get("open_tab", "Chat") is None
        preferences.delete("open_tab")
        preferences.delete("open_tab")
        assert preferences.all() == {}


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}, b"x"])
def test_what_is_not_json_is_refused_and_the_old_value_stays(home: Path, value: object) -> None:
    with Store() as store:
        preferences = Preferences(store)
        preferences.set("key", "old")
        with pytest.raises(InvalidValueError, match="'key' cannot be kept"):
            preferences.set("key", value)
        assert preferences.get("key") == "old"
        with pytest.raises(InvalidValueError, match="1 to 200"):
            preferences.set("", 1)


COUNT = """
from gguf_widgets.core.preferences import Preferences
preferences = Preferences()
for _ in range(50):
    preferences.update("count", lambda value: value + 1, 0)
"""


def test_updates_of_several_processes_are_not_lost(home: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", COUNT]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    with Store() as store:
        assert Preferences(store).get("count") == 150


def test_a_value_that_cannot_be_read_counts_as_not_set(home: Path) -> None:
    with Store() as store:
        preferences = Preferences(store)
        preferences.set("key", 1)
        with store.transaction() as connection:
            connection.execute("UPDATE preference SET value = '{broken'")
        assert preferences.get("key", "default") == "default"
