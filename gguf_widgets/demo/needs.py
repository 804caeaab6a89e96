"""One place that turns "a package is missing" into a sentence a person can act on.

Promises: `require` either returns the modules or ends the program with one line that says what
to install.

Leaves to others: everything else; this file imports nothing heavy by itself.
"""

from __future__ import annotations

import importlib
from types import ModuleType

INSTALL = 'pip install "gguf-widgets[demo-train]"'


def require(name: str) -> ModuleType:
    """Import a package that only the training of the demo model needs.

    Parameters
    ----------
    name
        The module to import.

    Returns
    -------
    types.ModuleType
        The imported module.

    Raises
    ------
    SystemExit
        When it is not installed; the message holds the install line.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"This needs the package {error.name!r}, which is not installed. Run: {INSTALL}"
        ) from None
