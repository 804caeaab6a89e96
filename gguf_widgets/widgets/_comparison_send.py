"""A comparison as a file, fetched by the page piece by piece.

Promises and what is left to others: as `_batch_send`; what is in it is `Comparison.export`'s.
"""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.core import config
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.widgets._batch_send import MAX_SENT_BYTES, Sending
from gguf_widgets.widgets._comparison_words import title_of

__all__ = ["FORMATS", "ComparisonSending"]

FORMATS: Final = (
    ("csv", "Table (CSV)", "A row for each prompt: what each side answered, and its scores"),
    ("json", "Everything (JSON)", "Sides, settings, prompts, answers, scores and votes"),
    ("ipynb", "Notebook that repeats it", "A Jupyter notebook with the prompts in it"),
)


class ComparisonSending(Sending):
    """Makes files of a comparison and hands out their pieces."""

    def make_of(self, comparison: Comparison, ending: Any) -> dict[str, Any]:
        """Write it; return its key and size, or where it lies.

        Raises
        ------
        InvalidValueError
            There is no such format.
        TableFileError
            It cannot be written so.
        """
        if ending not in {one[0] for one in FORMATS}:
            raise InvalidValueError(f"A comparison cannot be saved as {ending!r:.40}.")
        self.forget()
        self._folder = Path(tempfile.mkdtemp(prefix="gguf-widgets-"))
        words = re.sub(r"[^\w -]+", " ", title_of(comparison.title, comparison.labels))
        name = " ".join(words.split())[:60].strip(" -") or "comparison"
        path = comparison.export(self._folder / f"{name}.{ending}")
        told = {"name": path.name, "size": path.stat().st_size, "notes": []}
        if path.stat().st_size > MAX_SENT_BYTES:
            stamp = time.strftime("%Y-%m-%d %H-%M-%S")
            target = config.ensure(config.data_dir() / "results") / f"{name} {stamp}.{ending}"
            shutil.move(path, target)
            self.forget()
            return told | {"path": str(target)}
        self._path, self._key = path, secrets.token_hex(8)
        return told | {"key": self._key}
