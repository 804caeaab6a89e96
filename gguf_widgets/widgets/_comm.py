"""Let a widget's buttons work while a cell runs, where the kernel can do that.

JupyterLab sends widget messages on a subshell (a second thread of the kernel), so that they are
handled while the main one is busy with a cell. ipykernel 7.4 routes them back to the shell that the
widget's own messages came from, which is the busy one. The comm's private method that decides this
is replaced for our comms only, and only where it exists: "handle it where the page sent it".

Promises: nothing changes where ipykernel has no such method. Leaves to others: callbacks that are
safe on any thread (the widgets only enqueue, see `_actor`).
"""

from __future__ import annotations

import uuid
from typing import Any

__all__ = ["answer_where_asked", "new_identity"]


def new_identity() -> dict[str, str]:
    """Return the arguments that give a widget a known id and tell its page, from the beginning."""
    identity = uuid.uuid4().hex
    return {"model_id": identity, "own_id": identity}


def answer_where_asked(comm: Any) -> bool:
    """Route this comm's incoming messages to the subshell they were sent to.

    Returns whether there was anything to change.
    """
    if not callable(getattr(comm, "_reply_subshell_for", None)):
        return False
    comm._reply_subshell_for = lambda _data, default: default  # noqa: SLF001 - guarded above, see the module
    return True
