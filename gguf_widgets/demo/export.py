"""Write a trained checkpoint as a GGUF file: ``python -m gguf_widgets.demo.export FOLDER FILE``.

Promises: matrices in Q8_0, norms in F32, the output weights shared with the embedding, the whole
vocabulary, the chat template and the `general.*` entries. The same checkpoint gives the same
bytes.

Leaves to others: training (`train`), measuring (`evaluate`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gguf_widgets.demo import tokenizer as vocabulary
from gguf_widgets.demo.chatml import CONTROL_TOKENS, END, END_OF_TEXT, TEMPLATE
from gguf_widgets.demo.needs import require

DESCRIPTION = (
    "A tiny demo model, trained from scratch, so that gguf-widgets can be tried at once and "
    "without a download. It greets, labels reviews, reads order sentences into JSON, names "
    "capitals, adds and subtracts numbers up to 20, tells short stories and writes Python "
    "one-liners. It knows nothing else."
)


def export(folder: Path, target: Path) -> Path:
    """Write the model file.

    Parameters
    ----------
    folder
        Holds ``checkpoint.pt`` and ``tokenizer.json`` from the training.
    target
        The file to write.
    """
    torch, gguf = require("torch"), require("gguf")
    from gguf_widgets.demo import model

    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    tokenizer = vocabulary.load(folder / "tokenizer.json")
    shape = model.Shape(vocabulary=tokenizer.get_vocab_size())
    writer = gguf.GGUFWriter(target, "llama")
    _describe(gguf, writer, shape, saved["done"])
    _add_vocabulary(gguf, writer, tokenizer)
    for name, weight in saved["network"].items():
        values = weight.float().numpy()
        if values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _describe(gguf: Any, writer: Any, shape: Any, done: dict[str, Any]) -> None:
    writer.add_type("model")
    writer.add_name("gguf-widgets demo")
    writer.add_basename("gguf-widgets-demo")
    writer.add_size_label("3M")
    writer.add_version("1")
    writer.add_author("gguf-widgets")
    writer.add_organization("gguf-widgets")
    writer.add_description(DESCRIPTION)
    writer.add_license("mit")
    writer.add_license_name("MIT License")
    writer.add_languages(["en"])
    writer.add_tags(["demo", "text-generation", "trained-from-scratch"])
    run = ", ".join(f"{key} {done[key]}" for key in ("seed", "blocks", "block", "steps", "tokens"))
    writer.add_string("gguf_widgets.demo.training", run)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)


def _add_vocabulary(gguf: Any, writer: Any, tokenizer: Any) -> None:
    tokens, merges = vocabulary.vocabulary_and_merges(tokenizer)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types(
        [
            gguf.TokenType.CONTROL if token in CONTROL_TOKENS else gguf.TokenType.NORMAL
            for token in tokens
        ]
    )
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokens.index(END_OF_TEXT))
    writer.add_eos_token_id(tokens.index(END))
    writer.add_eot_token_id(tokens.index(END))
    writer.add_pad_token_id(tokens.index(END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Write the trained demo model as a GGUF file.")
    parser.add_argument("folder", type=Path, help="the folder of the training run")
    parser.add_argument("file", type=Path, help="the GGUF file to write")
    arguments = parser.parse_args()
    path = export(arguments.folder, arguments.file)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
