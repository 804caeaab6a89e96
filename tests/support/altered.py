"""A file of JSON as a person with an editor would change it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def alter(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write a changed copy beside the file, laid out otherwise, and return its path."""
    document = json.loads(path.read_text("ascii"))
    change(document)
    other = path.with_name(f"altered-{path.name}")
    other.write_text(json.dumps(document, indent=2), "utf-8")
    return other
