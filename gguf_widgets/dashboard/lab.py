"""JupyterLab on the notebooks of this package.

Promises: the notebooks open in a folder that can be written to, with this very Python as their
kernel; nothing is asked of JupyterLab's news server. Leaves to others: JupyterLab itself, where the
notebooks come from (`notebooks`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.dashboard.notebooks import workspace
from gguf_widgets.dashboard.quick_import import without_iri_grammar

__all__ = ["lab_arguments", "open_lab"]

_DEFAULTS = Path(__file__).parent / "jupyter"
_FIRST = "01_first_chat.ipynb"


def open_lab(
    *,
    ip: str = "localhost",
    port: int = 8888,
    token: str | None = None,
    open_browser: bool = True,
    extra: Sequence[str] = (),
) -> int:
    """Run JupyterLab until it is ended; return the exit status.

    Parameters
    ----------
    ip, port
        As in `gguf_widgets.dashboard.app.DashboardOptions`.
    token : str or None, default None
        What a visitor must bring. None and "" let JupyterLab make one and print it.
    open_browser : bool, default True
    extra : sequence of str
        Arguments handed to JupyterLab as they are; they win over ours.
    """
    # Defaults that a person's own settings still win over: no question about news, no look for
    # updates.
    others = os.environ.get("JUPYTER_CONFIG_PATH")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(
        [str(_DEFAULTS), *([others] if others else [])]
    )
    with without_iri_grammar():
        from jupyterlab.labapp import LabApp  # type: ignore[import-untyped]  # it has no types
    LabApp.launch_instance(
        lab_arguments(
            workspace(), ip=ip, port=port, token=token, open_browser=open_browser, extra=extra
        )
    )
    return 0


def lab_arguments(
    folder: Path,
    *,
    ip: str,
    port: int,
    token: str | None,
    open_browser: bool,
    extra: Sequence[str] = (),
) -> list[str]:
    """Return JupyterLab's command line.

    Raises
    ------
    InvalidValueError
        A port that does not exist.
    """
    if not 0 <= port <= 65535:
        raise InvalidValueError(f"The port is {port}; it must be from 0 to 65535.")
    kernels = "gguf_widgets.dashboard.kernels.ThisPythonKernelSpecs"
    arguments = [
        f"--ServerApp.root_dir={folder}",
        f"--ServerApp.ip={ip}",
        f"--ServerApp.port={port}",
        f"--ServerApp.open_browser={open_browser}",
        f"--ServerApp.kernel_spec_manager_class={kernels}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    if token:
        arguments.append(f"--IdentityProvider.token={token}")
    if (folder / _FIRST).is_file():
        arguments.append(f"--LabApp.default_url=/lab/tree/{_FIRST}")
    return [*arguments, *extra]
