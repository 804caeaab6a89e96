"""Where the dashboard's visitors may look for model files that are on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gguf_widgets import cli
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.dashboard import app
from gguf_widgets.dashboard.app import DashboardOptions


@pytest.mark.parametrize("ip", ["localhost", "127.0.0.1", "::1"])
def test_on_this_machine_the_persons_own_setting_counts(ip: str) -> None:
    assert DashboardOptions(ip=ip).browse_setting() is None


@pytest.mark.parametrize("ip", ["0.0.0.0", "", "*", "::", "192.168.1.7", "a-name"])  # noqa: S104
def test_visitors_from_other_machines_may_look_nowhere_unless_allowed(
    ip: str, tmp_path: Path
) -> None:
    assert DashboardOptions(ip=ip).browse_setting() == "none"
    (tmp_path / "more").mkdir()
    folders = [tmp_path, tmp_path / "more"]
    allowed = DashboardOptions(ip=ip, browse=folders).browse_setting()
    assert allowed == os.pathsep.join(map(str, folders))


def test_a_folder_that_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    odd = tmp_path / f"a{os.pathsep}b"
    odd.mkdir()
    for folder in (tmp_path / "nowhere", odd, Path("a\0b")):
        with pytest.raises(InvalidValueError, match="cannot be looked through"):
            DashboardOptions(browse=[folder])


def test_the_command_takes_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[DashboardOptions] = []
    monkeypatch.setattr(app, "serve", lambda options: seen.append(options) or 0)
    more = tmp_path / "more"
    more.mkdir()
    assert cli.main(["dashboard", "--browse", str(tmp_path), "--browse", str(more)]) == 0
    assert list(seen[0].browse) == [tmp_path, more]
    assert cli.main(["dashboard"]) == 0
    assert list(seen[1].browse) == []
    assert cli.main(["dashboard", "--browse", str(tmp_path / "nowhere")]) == 1
