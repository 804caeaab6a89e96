"""What there is to know of the program that watches, and of its machine.

Promises: it comes at once, and a system that does not tell something takes nothing else away.
Leaves to others: keeping it (`keeping`), the machine in full (`core.doctor`).
"""

from __future__ import annotations

import contextlib
import os
import platform
from typing import Any

import msgspec
import psutil

import gguf_widgets
from gguf_widgets.core.doctor_cpu import cpu_name
from gguf_widgets.core.fit_machine import usable_cores
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.store import owners

__all__ = ["facts"]


def facts(interval_s: float | None) -> dict[str, Any]:
    """Return what there is to know of a session, as JSON's own types."""
    memory = "unknown memory"
    with contextlib.suppress(psutil.Error, OSError):
        memory = f"{format_bytes(psutil.virtual_memory().total)} of memory"
    try:
        owner = msgspec.to_builtins(owners.this_process())
    except (psutil.Error, OSError):  # whether this process lives cannot be told later
        owner = {"host": platform.node(), "pid": os.getpid(), "started_at": 0.0}
    cores = usable_cores()
    return {
        "owner": owner,
        "interval_s": interval_s,
        "machine": f"{cpu_name()}, {cores} {'core' if cores == 1 else 'cores'}, {memory}",
        "versions": f"gguf-widgets {gguf_widgets.__version__}, Python "
        f"{platform.python_version()}, {platform.system()} {platform.release()}",
    }
