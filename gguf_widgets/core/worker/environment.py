"""The environment in which a Python process of our own starts.

Promises: the process finds this very package, also when it runs from a folder of sources, and this
data folder; what the notebook's environment would change in how another interpreter runs stays
behind. Leaves to others: starting it (`spawn`, `core.care.conversion_process`).
"""

from __future__ import annotations

import os
import site
from pathlib import Path
from typing import Final

import gguf_widgets
from gguf_widgets.core import config

__all__ = ["process_environment"]

# Of the notebook's environment these would change how the process's own interpreter runs.
_NOT_INHERITED: Final = (
    "PYTHONBREAKPOINT",
    "PYTHONINSPECT",
    "PYTHONPROFILEIMPORTTIME",
    "PYTHONSTARTUP",
    "PYTHONWARNINGS",
    "JPY_PARENT_PID",
    "JPY_SESSION_NAME",
)


def process_environment() -> dict[str, str]:
    """Return the environment variables for a process of our own, whatever its working folder."""
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    # It must find this very package, also when that runs from a folder of sources.
    home = str(Path(gguf_widgets.__file__).resolve().parent.parent)
    installed = [*site.getsitepackages(), site.getusersitepackages()]
    folders = [] if home in (str(Path(folder).resolve()) for folder in installed) else [home]
    # Its working folder is another one, where relative paths would mean something else.
    others = environment.pop("PYTHONPATH", "").split(os.pathsep)
    folders += [os.path.abspath(folder) for folder in others if folder]  # noqa: PTH100 - keeps links
    if folders:
        environment["PYTHONPATH"] = os.pathsep.join(folders)
    if environment.get("GGUF_WIDGETS_HOME"):
        environment["GGUF_WIDGETS_HOME"] = str(config.data_dir())
    # Without this ggml calls a debugger on itself when it aborts, which takes seconds.
    environment["GGML_NO_BACKTRACE"] = "1"
    return environment
