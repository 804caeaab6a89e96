"""The process that carries out a comparison: ``python -m gguf_widgets.compare --store FILE ID``.

Promises: what `core.own_process_work` does, for a comparison. Started by `process`. Leaves to
others: the comparison (`comparison`).
"""

from __future__ import annotations

from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.own_process_work import carry_out
from gguf_widgets.core.store.store import Store


def begin(comparison_id: str, store: Store, manager: ModelManager) -> Comparison:
    """Begin a comparison, or go on with it, in this process."""
    comparison = Comparison.open(comparison_id, store=store, manager=manager)
    comparison.start()
    return comparison


def main(arguments: list[str] | None = None) -> int:
    """Carry out a comparison and return the exit status: 0, or 1 if it could not go on."""
    return carry_out("gguf_widgets.compare", "comparison", begin, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
