"""The demo model, a tiny real language model that comes with the package, and its eye.

Promises: importing this needs nothing but the standard library, and `demo_model_path` and
`demo_projector_path` name files that are really there.

Leaves to others: loading them. Training and measuring are commands of their own (``python -m
gguf_widgets.demo.train``, ``.export``, ``.evaluate``; the same in ``gguf_widgets.demo.vision``);
the model card is README.md beside this file.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

MODEL_FILE = "demo.gguf"
PROJECTOR_FILE = "demo-mmproj.gguf"


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
    return _there(Path(str(files(__name__) / MODEL_FILE)), "model")


def demo_projector_path() -> Path:
    """Return where the demo model's bundled image companion (mmproj) is.

    Returns
    -------
    pathlib.Path
        The projector file inside the installed package.

    Raises
    ------
    FileNotFoundError
        When the package was installed without it (a broken build).
    """
    return _there(Path(str(files(__name__) / "vision" / PROJECTOR_FILE)), "model's eye")


def _there(path: Path, what: str) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"The demo {what} is missing: {path}. Install gguf-widgets again.")
    return path


__all__ = ["demo_model_path", "demo_projector_path"]
