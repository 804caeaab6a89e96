"""One line of the doctor's report.

Promises: plain values, JSON's kinds only. Leaves to others: what is looked at.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Finding", "pip_install"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    topic, name, value : str
        Where it is shown, what it is, what was found.
    status : {"ok", "hint", "broken"}, default "ok"
        "hint": it works and could be better. "broken": something does not work.
    advice : str, default ""
        What to do; always given with "hint" and "broken".
    facts : dict
        More of it for programs.
    """

    topic: str
    name: str
    value: str
    status: Literal["ok", "hint", "broken"] = "ok"
    advice: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def pip_install(what: str, *options: str) -> str:
    """Return the command that installs something into this very environment."""
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return " ".join([python, "-m pip install", *options, f'"{what}"'])
