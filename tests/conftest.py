"""Fixtures for every test: a data folder of its own, so that no test sees the user's."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from support.wheel import build_wheel, install_wheel

from gguf_widgets.core.config import runtime_dir

# On a busy machine any example may take long, and so may drawing it.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")


def pytest_configure() -> None:
    # Whatever is started in the background of a script ignores Ctrl+C, and so does what it starts.
    # The tests press it, so here it counts again.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def close_shared_monitor() -> None:
    """End the monitor that widgets share for as long as their process lives, if one was made."""
    module = sys.modules.get("gguf_widgets.core.monitor.monitor")
    monitor = module.PerformanceMonitor._shared if module is not None else None
    if monitor is not None:
        monitor.close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Iterator[Path]:
    """Point ``GGUF_WIDGETS_HOME`` at a fresh folder and clear the other switches."""
    folder = tmp_path / "home"
    folder.mkdir()
    # A patch of its own: what a test undoes in the middle does not lead it to the user's folder.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GGUF_WIDGETS_HOME", str(folder))
        patch.delenv("GGUF_WIDGETS_MODELS", raising=False)
        patch.setenv("GGUF_WIDGETS_SOURCES", "none")  # nor what other programs have here
        patch.delenv("GGUF_WIDGETS_BACKEND", raising=False)
        run = runtime_dir()
        yield folder
        close_shared_monitor()
    if folder not in run.parents:  # this test's own all the same: a long name moves it elsewhere
        shutil.rmtree(run, ignore_errors=True)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, once."""
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that has the wheel and nothing of this clone."""
    return install_wheel(tmp_path_factory.mktemp("clean") / "venv", wheel)
