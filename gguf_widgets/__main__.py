"""``python -m gguf_widgets`` is the ``gguf-widgets`` command."""

from __future__ import annotations

from gguf_widgets.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
