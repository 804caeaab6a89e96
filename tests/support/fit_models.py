"""Models of any architecture, as llama.cpp wants them, and what it would allocate for them.

Not a test and no fixture. A model is given by its header's entries alone: which tensors it must
have, and how large, is taken from llama.cpp's own complaints. The files hold no weights (they are
holes), and llama.cpp loads them with ``no_alloc``, which lays everything out and allocates nothing:
so models of real widths cost no memory. `ask` does it in a process of its own, since llama.cpp may
abort on a model that it does not like.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.gguf_writer import F16, F32, Tensor, Typed, header_bytes

__all__ = ["ask"]

# Tensors that llama.cpp takes if they are there and cannot compute without: it does not complain.
OPTIONAL = {
    "falcon-h1": ["ssm_conv1d.bias"],
    "bailingmoe3": ["attn_norm.weight"],
    "glm4moe": ["attn_norm.weight"],
    "granitehybrid": ["ssm_conv1d.bias"],
    "nemotron_h": ["ssm_conv1d.bias"],
    "phi3": ["attn_qkv.weight"],
    "qwen35": ["attn_qkv.weight", "attn_gate.weight"],
    "qwen3next": ["attn_qkv.weight", "attn_gate.weight"],
    "rwkv6qwen2": [f"time_mix_lerp_{letter}.weight" for letter in "wkvrg"],
    "rwkv6": [f"time_mix_lerp_{letter}.weight" for letter in "wkvrg"],
}
# These have to be in 32 bits for what is done with them.
_WIDE = re.compile(
    r"ssm_|time_mix|shortconv.conv|norm|bias|exp_probs|lerp|altup|laurel|per_layer|inp_gate|_r\b|"
    r"sinks|scale|hc_|ape|indexer|ple_"
)
_MISSING = re.compile(r"missing tensor '([^']+)'|tensor '([^']+)' not found")
_USED = re.compile(r"create_tensor: loading tensor (\S+)")
_WRONG = re.compile(r"tensor '([^']+)' has wrong shape; expected ([\d, ]+), got")


def ask(
    folder: Path,
    shapes: dict[str, tuple[str, dict[str, Any]]],
    contexts: list[dict[str, Any]],
    *,
    n_vocab: int = 64,
    timeout_s: float = 100,
) -> dict[str, list[dict[str, float]]]:
    """Write a model of each shape into `folder`, and return what each context would take.

    The answer has for each shape, in the order of `contexts`, the sizes in bytes of "cells",
    "states", "compute" and "output".
    """
    order = {"folder": str(folder), "shapes": shapes, "contexts": contexts, "n_vocab": n_vocab}
    done = subprocess.run(
        [sys.executable, "-m", "support.fit_models"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
            "GGML_NO_BACKTRACE": "1",
        },
    )
    answers = {line["name"]: line["sizes"] for line in map(json.loads, done.stdout.splitlines())}
    ended_on = next((name for name in shapes if name not in answers), None)
    assert ended_on is None, f"{ended_on}: status {done.returncode}, {done.stderr[-1500:]}"
    return answers


class _Llama:
    """llama.cpp's library in this process, and what it says."""

    def __init__(self) -> None:
        import llama_cpp

        self.lib = llama_cpp
        self._said: list[str] = []
        self._callback = llama_cpp.llama_log_callback(self._take)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()

    def _take(self, level: int, text: bytes, _: Any) -> None:
        self._said.append(text.decode("utf-8", "replace"))

    def said(self) -> str:
        text = "".join(self._said)
        self._said.clear()
        return text

    def load(self, path: Path) -> Any:
        self._said.clear()
        params = self.lib.llama_model_default_params()
        params.no_alloc = True
        params.load_mode = self.lib.LLAMA_LOAD_MODE_NONE
        return self.lib.llama_model_load_from_file(os.fsencode(path), params)

    def sizes(self, model: Any, options: dict[str, Any]) -> dict[str, float]:
        self._said.clear()
        params = self.lib.llama_context_default_params()
        params.kv_unified = params.swa_full = True
        for name, value in options.items():
            setattr(params, name, value)
        if "n_outputs_max" not in options:
            params.n_outputs_max = params.n_seq_max
        context = self.lib.llama_init_from_model(model, params)
        text = self.said()
        if not context:
            raise AssertionError(text[-1500:])
        self.lib.llama_free(context)
        found = {"cells": 0.0, "states": 0.0, "compute": 0.0, "output": 0.0}
        for who, size in re.findall(r"(\w+): size =\s*([\d.]+) MiB \(", text):
            found["states" if "recurrent" in who else "cells"] += float(size) * 2**20
        for size in re.findall(r"layers = \d+, size =\s*([\d.]+) MiB", text):  # DeepSeek V4's
            found["states"] += float(size) * 2**20
        for kind, size in re.findall(r"(compute|output) +buffer size = +([\d.]+) MiB", text):
            found[kind] += float(size) * 2**20
        return found


def _write(path: Path, arch: str, entries: dict[str, Any], tensors: dict[str, list[int]]) -> None:
    typed = {
        "general.architecture": Typed("string", arch),
        "tokenizer.ggml.model": Typed("string", "none"),
    }
    typed |= {f"{arch}.{key}": _typed(value) for key, value in entries.items()}
    table = []
    for name, shape in tensors.items():
        kind = F32 if len(shape) == 1 or _WIDE.search(name) else F16
        table.append(Tensor(name, tuple(shape), kind, (4 if kind == F32 else 2) * math.prod(shape)))
    data, end = header_bytes(typed.items(), table)
    with path.open("wb") as file:
        file.write(data)
        file.truncate(len(data) + end + 64)


def _typed(value: Any) -> Typed:
    if isinstance(value, list):
        kind = _typed(value[0]).type
        return Typed("array", (kind if kind != "uint32" else "int32", value))
    kinds = {bool: "bool", int: "uint32", float: "float32", str: "string"}
    return Typed(kinds[type(value)], value)


def _discover(llama: _Llama, path: Path, arch: str, entries: dict[str, Any], n_vocab: int) -> Any:
    """Write the model that llama.cpp wants, and return it loaded."""
    entries = {**entries, "vocab_size": n_vocab}
    tensors = {"token_embd.weight": [8, n_vocab]}

    def put(name: str, shape: list[int]) -> None:
        """Add a tensor, or give it a shape; layers are taken to be alike until told otherwise."""
        tensors[name] = shape
        _, dot, rest = name.removeprefix("blk.").partition(".")
        for layer in range(entries["block_count"]) if name.startswith("blk.") and dot else ():
            if tensors.get(f"blk.{layer}.{rest}", [1]) == [1]:
                tensors[f"blk.{layer}.{rest}"] = shape

    names = list(OPTIONAL.get(arch, ()))
    if "expert_count" in entries:
        names.append("ffn_gate_exps.weight")
    for name in names:
        put(f"blk.0.{name}", [1])
    while True:
        _write(path, arch, entries, tensors)
        model = llama.load(path)
        if model:
            return model
        text = llama.said()
        missing, wrong = _MISSING.search(text), _WRONG.search(text)
        if missing and (missing[1] or missing[2]) not in tensors:
            put(missing[1] or missing[2], [1])
        elif wrong:
            shape = [int(size) for size in wrong[2].split(",")]
            while len(shape) > 1 and shape[-1] == 1:
                shape.pop()
            put(wrong[1], shape)
        elif "wrong number of tensors" in text:  # some layers have no use for what others have
            used = set(_USED.findall(text))
            tensors = {name: shape for name, shape in tensors.items() if name in used}
        else:
            raise AssertionError(text[-1500:])


def _main() -> None:
    order = json.load(sys.stdin)
    llama = _Llama()
    for name, (arch, entries) in order["shapes"].items():
        path = Path(order["folder"], f"{name}.gguf")
        model = _discover(llama, path, arch, entries, order["n_vocab"])
        sizes = [llama.sizes(model, options) for options in order["contexts"]]
        llama.lib.llama_model_free(model)
        sys.stdout.write(json.dumps({"name": name, "sizes": sizes}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
