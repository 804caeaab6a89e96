"""Write a trained checkpoint as a GGUF file: ``python -m gguf_widgets.demo.vision.export``.

Promises: matrices in F16, norms, biases and places in F32, and every key that llama.cpp's `clip`
loader asks for. The same checkpoint gives the same bytes.

Leaves to others: training (`train`), measuring (`evaluate`).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.demo.needs import require
from gguf_widgets.demo.vision.shape import MEAN, SPREAD, EyeShape

DESCRIPTION = (
    "The eye of the gguf-widgets demo model: a tiny vision encoder and projector, trained from "
    "scratch on drawn figures. With it the demo model names the shape and the colour of one figure."
)


def export(folder: Path, target: Path) -> Path:
    """Write the projector file.

    Parameters
    ----------
    folder
        Holds ``checkpoint.pt`` from the training.
    target
        The file to write.
    """
    saved = require("torch").load(folder / "checkpoint.pt", weights_only=True)
    weights = {name: weight.float().numpy() for name, weight in saved["eye"].items()}
    return write(weights, EyeShape(**saved["shape"]), saved["done"], target)


def write(
    weights: Mapping[str, NDArray[np.float32]],
    shape: EyeShape,
    done: Mapping[str, Any],
    target: Path,
) -> Path:
    """Write weights, named as in the encoder, as a projector file.

    Parameters
    ----------
    weights
        All that `EyeShape.weights` names.
    shape
        The sizes of the network.
    done
        The run that made them: ``seed``, ``seeing``, ``telling``, ``steps``, ``pictures``.
    target
        The file to write.
    """
    gguf = require("gguf")
    writer = gguf.GGUFWriter(target, "clip")
    _describe(gguf, writer, shape, done)
    for name in shape.weights():
        values = np.asarray(weights[name], np.float32)
        in_half = values.ndim > 1 and not name.startswith("position_embd")
        if name == "patch_embd.weight":  # a convolution, says llama.cpp
            values = values.reshape(-1, 3, shape.patch, shape.patch)
        writer.add_tensor(_name(name), values.astype(np.float16) if in_half else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _name(name: str) -> str:
    if name.startswith("mm_"):
        return name.replace("mm_", "mm.", 1)
    return f"v.{name}"


def _describe(gguf: Any, writer: Any, shape: EyeShape, done: Mapping[str, Any]) -> None:
    writer.add_type("mmproj")
    writer.add_name("gguf-widgets demo eye")
    writer.add_basename("gguf-widgets-demo")
    writer.add_author("gguf-widgets")
    writer.add_organization("gguf-widgets")
    writer.add_description(DESCRIPTION)
    writer.add_license("mit")
    writer.add_license_name("MIT License")
    writer.add_tags(["demo", "vision", "trained-from-scratch"])
    run = ", ".join(
        f"{key} {done[key]}" for key in ("seed", "seeing", "telling", "steps", "pictures")
    )
    writer.add_string("gguf_widgets.demo.training", run)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    for key, value in (
        ("image_size", shape.side),
        ("patch_size", shape.patch),
        ("embedding_length", shape.width),
        ("feed_forward_length", shape.feed_forward),
        ("projection_dim", shape.language_width),
        ("block_count", shape.blocks),
        ("attention.head_count", shape.heads),
    ):
        writer.add_uint32(f"clip.vision.{key}", value)
    # Without this, llama.cpp leaves the last block out, as LLaVA does.
    writer.add_array("clip.vision.feature_layer", [shape.blocks])
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", shape.norm_epsilon)
    writer.add_array("clip.vision.image_mean", [MEAN] * 3)
    writer.add_array("clip.vision.image_std", [SPREAD] * 3)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Write the trained eye as a GGUF file.")
    parser.add_argument("folder", type=Path, help="the folder of the training run")
    parser.add_argument("file", type=Path, help="the GGUF file to write")
    arguments = parser.parse_args()
    path = export(arguments.folder, arguments.file)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
