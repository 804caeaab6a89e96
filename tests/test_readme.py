"""The README's commands, examples, links and pictures are what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def shell_lines() -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


def run(
    *command: str, stdin: str = "", timeout: float = 100, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=folder,
    )


def test_the_first_two_commands_are_dashboard_and_test() -> None:
    assert shell_lines()[:2] == ["make dashboard", "make test"]


def test_every_make_target_named_exists() -> None:
    named = set(re.findall(r"\bmake ([a-z]+)", README))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.MULTILINE))
    assert {"dashboard", "lab", "test", "check", "bench"} <= named
    assert named <= targets


def test_every_python_example_runs_in_order(tmp_path: Path) -> None:
    script = "\n".join(blocks("python"))
    assert script.count("\n") > 10, "the README lost its examples"
    done = run(sys.executable, "-W", "error", "-c", script, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 20


def test_every_command_line_example_runs(tmp_path: Path) -> None:
    from gguf_widgets.demo import demo_model_path

    lines = [line for line in shell_lines() if line.startswith("gguf-widgets ")]
    seen = set()
    for line in lines:
        words = line.split()[1:]
        seen.add(words[0])
        if words[0] in {"dashboard", "lab"}:  # tests/ui starts these for real
            words = [words[0], "--help"]
        words = [str(demo_model_path()) if word == "model.gguf" else word for word in words]
        done = run(sys.executable, "-m", "gguf_widgets.cli", *words, stdin="Hello\n")
        # doctor answers 1 when it found a fault on the machine; it must not crash.
        assert done.returncode in ({0, 1} if words[0] == "doctor" else {0}), (line, done.stderr)
        assert "Traceback" not in done.stderr, (line, done.stderr)
        assert done.stdout.strip(), line
    assert {"dashboard", "models", "inspect", "chat", "doctor"} <= seen


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_every_relative_link_leads_somewhere(target: str) -> None:
    assert (ROOT / target).is_file()


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:gguf_widgets|notebooks)/[\w./]+)`", README)))
)
def test_every_path_named_exists(path: str) -> None:
    assert (ROOT / path).exists()
