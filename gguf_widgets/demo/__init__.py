"""The demo model, a tiny real language model that comes with the package.

Promises: importing this needs nothing but the standard library, and `demo_model_path` names a
file that is really there.

Leaves to others: loading it. Training and measuring are commands of their own (``python -m
gguf_widgets.demo.train``, ``.export``, ``.evaluate``); the model card is README.md beside this
file.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

MODEL_FILE = "demo.gguf"


def demo_model_path() -> Path:
    """Return where the bundled demo model is.

    Returns
    -------
    pathlib.Path
        The model file inside the installed package.

    Raises
    ------
    FileNotFoundError
        When the package was installed without it (a broken build).
    """
    path = Path(str(files(__name__) / MODEL_FILE))
    if not path.is_file():
        raise FileNotFoundError(f"The demo model is missing: {path}. Install gguf-widgets again.")
    return path


__all__ = ["demo_model_path"]
