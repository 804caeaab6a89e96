"""The doctor: what it finds, and that nothing it meets stops it or is changed by it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from support.servers import REPOSITORY

from gguf_widgets.core import config, doctor, doctor_engine
from gguf_widgets.core.doctor import Finding, Report, examine, to_text
from gguf_widgets.core.doctor_engine import check_engine, parse_system_info
from gguf_widgets.core.doctor_folders import check_folders
from gguf_widgets.core.doctor_python import check_python
from gguf_widgets.core.store.store import Store


def by_name(findings: object) -> dict[str, Finding]:
    assert isinstance(findings, (list, tuple))
    return {finding.name: finding for finding in findings}


def test_the_command_reports_everything_and_changes_nothing(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gguf_widgets", "doctor", "--json"],
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=110,
    )
    report = json.loads(done.stdout)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert {"Python", "gguf-widgets", "voila", "jupyterlab", "anywidget", "ipykernel"} <= set(found)
    assert {"processor", "cores", "llama-cpp-python", "memory"} <= set(found)
    assert {"data folder", "models folder", "free disk space", "models"} <= set(found)
    assert found["Python"]["facts"]["executable"] == sys.executable
    assert found["data folder"]["facts"]["path"] == str(home)
    assert found["models"]["facts"]["usable"] >= 1
    assert done.returncode == (0 if report["ok"] else 1)
    assert all(one["advice"] for one in report["findings"] if one["status"] != "ok")
    assert list(home.iterdir()) == []


def test_the_text_names_each_fault_with_what_to_do() -> None:
    report = Report(
        (
            Finding(topic="A", name="one", value="fine"),
            Finding(topic="A", name="two", value="slow", status="hint", advice="Be quicker."),
            Finding(topic="B", name="three", value="gone", status="broken", advice="Get it."),
        )
    )
    lines = to_text(report).splitlines()
    assert "! three: Get it." in lines[lines.index("What is broken") :]
    assert "? two: Be quicker." in lines[lines.index("What could be better") :]
    assert "Everything that is needed works." not in lines
    assert Report(report.findings[:2]).to_dict()["ok"] is True
    assert report.to_dict()["ok"] is False


def test_a_check_that_fails_is_a_finding_and_the_others_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails() -> list[Finding]:
        raise ZeroDivisionError("for this test")

    monkeypatch.setattr(doctor, "check_engine", fails)
    report = examine()
    assert any("ZeroDivisionError: for this test" in finding.value for finding in report.broken)
    assert "free disk space" in by_name(report.findings)


@pytest.mark.parametrize(
    ("probe", "limit_s", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", 60, "crashed when it was"),
        ("raise ImportError('libllama.so: cannot open')", 60, "libllama.so: cannot open"),
        ("import time; time.sleep(600)", 0.5, "did not answer in"),
    ],
)
def test_a_library_that_crashes_fails_or_hangs_is_reported(
    monkeypatch: pytest.MonkeyPatch, probe: str, limit_s: float, words: str
) -> None:
    monkeypatch.setattr(doctor_engine, "_PROBE", probe)
    monkeypatch.setattr(doctor_engine, "_TIMEOUT_S", limit_s)
    monkeypatch.setattr(doctor_engine, "demo_reason", lambda: None)
    found = by_name(list(check_engine()))["llama-cpp-python"]
    assert found.status == "broken"
    assert words in found.value
    assert "pip install" in found.advice


@pytest.mark.parametrize(
    ("built", "status", "words"),
    [
        ("CPU : AVX = 1 | AVX2 = 1 | ", "ok", ""),
        ("CPU : AVX = 1 | ", "hint", "does not use AVX2"),
        ("CPU : AVX = 1 | AVX2 = 1 | AVX512 = 1 | ", "broken", "compiled for AVX512"),
    ],
)
def test_the_build_is_compared_with_the_processor(built: str, status: str, words: str) -> None:
    found = doctor_engine._build(parse_system_info(built), {"AVX", "AVX2"})
    assert found.status == status
    assert words in found.advice


def test_demo_mode_is_a_hint_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "scripted")
    found = by_name(list(check_engine()))["llama-cpp-python"]
    assert found.status == "hint"
    assert "GGUF_WIDGETS_BACKEND" in found.advice


def test_a_missing_package_is_broken_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gguf_widgets.core.doctor_python._PACKAGES", ("no-such-package",))
    found = by_name(list(check_python()))["no-such-package"]
    assert found.status == "broken"
    assert 'pip install "no-such-package"' in found.advice


def test_a_foreign_kernel_is_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tmp_path / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": ["/other/bin/python", "-m", "x"]}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    found = by_name(list(check_python()))['kernel "python3"']
    assert found.status == "hint"
    assert "/other/bin/python" in found.value


def test_the_database_is_judged_without_being_touched(home: Path) -> None:
    path = config.store_path()

    def conversations() -> Finding:
        return by_name(list(check_folders()))["conversations"]

    assert "made when it is needed" in conversations().value
    with Store(path) as store, store.reading():
        pass
    assert conversations().status == "ok"
    assert "0 conversations" in conversations().value

    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    assert conversations().status == "broken"
    assert "newer gguf-widgets" in conversations().value

    path.write_bytes(b"not a database, " * 1000)
    before = path.read_bytes()
    assert conversations().status == "broken"
    assert path.read_bytes() == before


def test_bad_models_and_missing_folders_are_hints_with_their_reason(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_MODELS", str(tmp_path / "nowhere"))
    (home / "models").mkdir()
    (home / "models" / "letter.gguf").write_text("Dear Emma")
    found = by_name(list(check_folders()))
    assert found["more models"].status == "hint"
    assert found["model letter"].status == "hint"
    assert "GGUF" in found["model letter"].advice
    assert found["models"].status == "ok"


def test_a_data_folder_that_cannot_be_made_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GGUF_WIDGETS_HOME", str(tmp_path / "file" / "inside"))
    found = by_name(list(check_folders()))["data folder"]
    assert found.status == "broken"
    assert "GGUF_WIDGETS_HOME" in found.advice
