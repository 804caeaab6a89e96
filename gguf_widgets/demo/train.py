"""Train the demo model from scratch: ``python -m gguf_widgets.demo.train``.

Promises: every random choice comes from the seed, so the same seed, the same versions and the same
machine give the same run (the model card says what was checked). A run that was stopped goes on
from its last checkpoint and ends with the same weights.

Leaves to others: writing the model file (`export`) and measuring it (`evaluate`).
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gguf_widgets.demo import tokenizer as vocabulary
from gguf_widgets.demo.needs import require

BLOCKS = 160  # of 1,024 conversations each
TOKENS_A_PART, PARTS_A_STEP = 1024, 4
THREADS = 2  # parts that are learned from side by side
CHECKPOINT_EVERY = 5  # blocks
MATRIX_RATE, EMBEDDING_RATE, OTHER_RATE = 0.02, 0.03, 0.004
RISE, COPYING, SUMS = 1.0, 4.0, 65.0  # blocks


def rate_at(block: float, blocks: int) -> float:
    """Return the factor on the learning rates: a short rise, a plateau, a straight line down."""
    return min(1.0, block / RISE + 0.05, max(0.01, (1.0 - block / blocks) / 0.5))


def extra_at(block: int) -> dict[str, float]:
    """Return the shares of conversations that are exercises of one kind.

    Copying is half of everything at the very start, since all reading of orders grows from it, and
    has no extra share a little later. Sums are a table to be learned by heart, which takes many
    repeats; they are short, and they stay only if they come late, so their extra share is late.
    """
    return {
        "copying_share": max(0.0, 0.5 * (1.0 - block / COPYING)),
        "sums_share": 0.18 if block >= SUMS else 0.0,
    }


class Run:
    """A training run: the network, its optimizers, and how far it is.

    Parameters
    ----------
    folder
        Where the vocabulary, the checkpoint and the log are kept.
    seed
        Decides everything random.
    blocks
        Length of the run.
    pool
        Threads to work in.
    """

    def __init__(self, folder: Path, seed: int, blocks: int, pool: Executor) -> None:
        self.torch = require("torch")
        from gguf_widgets.demo import model, optimizer

        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.seed, self.blocks, self.pool = folder, seed, blocks, pool
        words = folder / "tokenizer.json"
        if not words.exists():
            vocabulary.train(seed).save(str(words))
        self.tokenizer = vocabulary.load(words)
        # One thread inside each operation: the parts of a batch are what runs side by side. Threads
        # that meet once a step wait far less for a busy machine than threads that meet at every
        # product of matrices.
        self.torch.set_num_threads(1)
        self.torch.manual_seed(seed)
        self.torch.use_deterministic_algorithms(mode=True)
        self.network = model.TinyLlama(model.Shape(vocabulary=self.tokenizer.get_vocab_size()))
        self.weights = list(self.network.parameters())
        inner = [w for w in self.network.blk.parameters() if w.ndim == 2]
        embedding = self.network.token_embd.weight
        apart = {id(weight) for weight in (*inner, embedding)}
        self.others = [weight for weight in self.weights if id(weight) not in apart]
        self.muon = optimizer.Muon(inner, lr=MATRIX_RATE, pool=pool)
        groups = [
            {"params": [embedding], "rate": EMBEDDING_RATE},
            {"params": self.others, "rate": OTHER_RATE},
        ]
        self.adam = self.torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)
        self.done: dict[str, Any] = {
            "seed": seed, "blocks": blocks, "block": 0, "steps": 0, "tokens": 0,
            "wall_s": 0.0, "cpu_s": 0.0,
        }  # fmt: skip
        if self.checkpoint.exists():
            self._restore()

    @property
    def checkpoint(self) -> Path:
        """The file that holds everything needed to go on."""
        return self.folder / "checkpoint.pt"

    def _restore(self) -> None:
        saved = self.torch.load(self.checkpoint, weights_only=True)
        if (saved["done"]["seed"], saved["done"]["blocks"]) != (self.seed, self.blocks):
            raise SystemExit(
                f"{self.checkpoint} belongs to a run with another seed or length. "
                "Use another folder."
            )
        self.network.load_state_dict(saved["network"])
        self.muon.load_state_dict(saved["muon"])
        self.adam.load_state_dict(saved["adam"])
        self.done = saved["done"]

    def save(self) -> None:
        """Write the checkpoint, all of it or nothing."""
        state = {
            "network": self.network.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "done": self.done,
        }
        half_written = self.checkpoint.with_suffix(".new")
        self.torch.save(state, half_written)
        half_written.replace(self.checkpoint)

    def block(self) -> float:
        """Learn from the next block and return the mean loss on its answers."""
        from gguf_widgets.demo import batches

        wall, cpu = time.perf_counter(), time.process_time()
        number = self.done["block"]
        longest = self.network.shape.context
        extra = extra_at(number)
        parts = batches.block(self.tokenizer, self.seed, number, extra, TOKENS_A_PART, longest)
        steps = [parts[i : i + PARTS_A_STEP] for i in range(0, len(parts), PARTS_A_STEP)]
        losses = []
        for i, step in enumerate(steps):
            losses.append(self._step(step, rate_at(number + i / len(steps), self.blocks)))
            self.done["tokens"] += sum(tokens.numel() for tokens, _, _ in step)
        self.done["block"] += 1
        self.done["steps"] += len(steps)
        self.done["wall_s"] += time.perf_counter() - wall
        self.done["cpu_s"] += time.process_time() - cpu
        return sum(losses) / len(losses)

    def _step(self, parts: list[Any], rate: float) -> float:
        results = list(self.pool.map(self._gradients, parts))
        total = sum(weight for _, weight, _ in results)
        for position, weight in enumerate(self.weights):
            weight.grad = sum(gradients[position] for _, _, gradients in results) / total
        self.muon.param_groups[0]["lr"] = MATRIX_RATE * rate
        for group in self.adam.param_groups:
            group["lr"] = group["rate"] * rate
        self.muon.step()
        self.adam.step()
        return sum(loss for loss, _, _ in results) / total

    def _gradients(self, part: tuple[Any, ...]) -> tuple[float, float, Any]:
        """Return the weighted loss on the answers, the sum of the weights, and the gradients.

        Only the answers count, so only their scores are computed.
        """
        tokens, targets, weights = part
        counts = weights > 0
        scores = self.network.scores(self.network(tokens, counts))
        each = self.torch.nn.functional.cross_entropy(scores, targets[counts], reduction="none")
        loss = each @ weights[counts]
        gradients = self.torch.autograd.grad(loss, self.weights)
        return float(loss.detach()), float(weights.sum()), gradients


def train(
    folder: Path, *, seed: int = 1, blocks: int = BLOCKS, stop_after: int | None = None
) -> Path:
    """Train, or go on training.

    Parameters
    ----------
    folder
        Where the vocabulary, the checkpoint and the log are kept.
    seed
        Decides everything random.
    blocks
        Length of the run, in blocks of 1,024 conversations.
    stop_after
        Stop after this many blocks in this call (the run can be continued).

    Returns
    -------
    pathlib.Path
        The checkpoint.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        run = Run(folder, seed, blocks, pool)
        size = sum(weight.numel() for weight in run.weights)
        print(
            f"{size:,} parameters; {run.done['block']} of {blocks} blocks done",
            flush=True,
        )
        last = blocks if stop_after is None else min(blocks, run.done["block"] + stop_after)
        while run.done["block"] < last:
            loss = run.block()
            done = run.done
            with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps({**done, "loss": round(loss, 4)}) + "\n")
            print(
                f"block {done['block']}/{blocks}  steps {done['steps']}  loss {loss:.3f}  "
                f"{done['wall_s'] / 60:.1f} min, {done['cpu_s'] / 60:.1f} min of processor time",
                flush=True,
            )
            if done["block"] % CHECKPOINT_EVERY == 0 or done["block"] == last:
                run.save()
    return run.checkpoint


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Train the gguf-widgets demo model from scratch.")
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("demo-training"),
        help="where checkpoints go",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--blocks",
        type=int,
        default=BLOCKS,
        help="length, in blocks of 1,024 conversations",
    )
    parser.add_argument(
        "--stop-after", type=int, help="stop after this many blocks; run again to go on"
    )
    told = parser.parse_args()
    checkpoint = train(told.folder, seed=told.seed, blocks=told.blocks, stop_after=told.stop_after)
    print(
        f"The checkpoint is {checkpoint}. Write the model file with:\n"
        f"python -m gguf_widgets.demo.export {told.folder} demo.gguf"
    )


if __name__ == "__main__":
    main()
