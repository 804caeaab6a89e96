"""The process that carries out one run: ``python -m gguf_widgets.batch --store FILE RUN_ID``.

Promises: what `core.own_process_work` does, for a run. Started by `process`. Leaves to others: the
run (`run`), what it is asked from outside (`steering`).
"""

from __future__ import annotations

from gguf_widgets.batch.run import BatchRun
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.own_process_work import carry_out
from gguf_widgets.core.store.store import Store


def begin(run_id: str, store: Store, manager: ModelManager) -> BatchRun:
    """Begin a run, or go on with it, in this process."""
    return BatchRun(run_id, store, manager).start(own_process=False)


def main(arguments: list[str] | None = None) -> int:
    """Carry out a run and return the exit status: 0, or 1 if it could not go on."""
    return carry_out("gguf_widgets.batch", "run", begin, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
