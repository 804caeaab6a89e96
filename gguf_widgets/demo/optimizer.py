"""Muon for the matrices, AdamW for the rest.

Promises: `Muon` is momentum whose step is made orthogonal by five Newton-Schulz rounds (Keller
Jordan, 2024). PyTorch has one too, but it computes in bfloat16, which most processors without a
GPU do slowly; this one stays in float32 and treats all matrices of one shape in a single batched
product.

Leaves to others: the learning rate at each step.
"""

# Where torch is not installed its classes are of no known type:
# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-unused-ignores

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Executor

import torch
from torch import Tensor, nn


@torch.no_grad()
def orthogonal(matrices: Tensor, rounds: int = 5) -> Tensor:
    """Return matrices (n, rows, columns) with all singular values brought near one."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(rounds):
        squares = x @ x.mT
        x = a * x + (b * squares + c * squares @ squares) @ x
    flat: Tensor = x.mT if tall else x
    return flat


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonal steps, for the matrices inside the layers.

    Parameters
    ----------
    weights
        The matrices.
    lr, momentum, weight_decay
        As in other optimizers; the decay is decoupled.
    pool
        Threads that share the work, one shape of matrix at a time.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        lr: float,
        pool: Executor,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(list(weights), settings)
        self._pool = pool

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                by_shape[weight.shape].append(weight)
            moves = [self._moves(weights, group["momentum"]) for weights in by_shape.values()]
            directions = self._pool.map(orthogonal, moves)
            for weights, found in zip(by_shape.values(), directions, strict=True):
                rows, columns = weights[0].shape
                rate = group["lr"] * max(1.0, rows / columns) ** 0.5
                for weight, direction in zip(weights, found, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(direction, alpha=-rate)

    def _moves(self, weights: list[nn.Parameter], momentum: float) -> Tensor:
        moves = []
        for weight in weights:
            gradient = weight.grad
            if gradient is None:
                raise ValueError("Muon was asked to step before there were gradients")
            state = self.state[weight]
            if not state:
                state["momentum"] = torch.zeros_like(weight)
            state["momentum"].lerp_(gradient, 1 - momentum)
            moves.append(gradient.lerp(state["momentum"], momentum))
        return torch.stack(moves)
