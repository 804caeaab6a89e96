"""The packages that Excel and Parquet need, and what to say where they are not installed.

Promises: an optional package is imported only when a file needs it; its absence names the feature
and the line that installs it. Leaves to others: everything else.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

from gguf_widgets.core.errors import MissingDependencyError

__all__ = ["INSTALL_LINE", "openpyxl", "pandas", "parquet", "pyarrow"]

INSTALL_LINE: Final = 'pip install "gguf-widgets[tables]"'


def openpyxl() -> Any:
    """Return the module that reads and writes Excel files."""
    return _module("openpyxl", "openpyxl", "Excel files need")


def pyarrow() -> Any:
    """Return the module of Arrow's arrays and types."""
    return _module("pyarrow", "pyarrow", "Parquet files need")


def parquet() -> Any:
    """Return the module that reads and writes Parquet files."""
    return _module("pyarrow.parquet", "pyarrow", "Parquet files need")


def pandas() -> Any:
    """Return pandas, which is always installed and takes a moment to import."""
    return importlib.import_module("pandas")


def _module(module: str, package: str, feature: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{feature} the package {package}, which is not installed. Install it:"
            f" {INSTALL_LINE}. Or save the table as CSV, which needs nothing.",
            install=INSTALL_LINE,
            package=package,
        ) from error
