"""The last layer of recognition training: one direction for each identity, divided over the ranks.

Each rank holds an equal run of the classes. The embeddings of all ranks are gathered, each rank computes its own
columns of the logits, and the softmax is put together from one maximum and two sums over the ranks: no rank ever sees
the whole matrix. With one process this is plain cross entropy.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from probface.errors import InvalidValue
from probface.loss.margin import Margin, with_margin
from probface.train.processes import gathered


class ClassLayer(nn.Module):
    """Cross entropy over ``scale * with_margin(cos)``.

    Args:
        classes: how many identities; all ranks together hold ``weight`` of shape (classes, dim).
        dim: D.
        kind, margin, scale: see :mod:`probface.loss.margin`.
        rank, ranks: which run of the classes this process holds.
        seed: of the initial directions; every rank draws the same matrix and keeps its run.

    Raises:
        InvalidValue: more ranks than classes.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        kind: Margin,
        margin: float,
        scale: float,
        rank: int = 0,
        ranks: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if classes < ranks:
            raise InvalidValue(
                f"{classes} identities over {ranks} processes: each needs one or more; start fewer processes"
            )
        self.first, last = run_of(classes, rank, ranks)
        self.classes, self.kind, self.margin, self.scale, self.ranks = classes, kind, margin, scale, ranks
        generator = torch.Generator().manual_seed(seed)
        weight = torch.empty(last - self.first, dim)
        for row in range(last):  # one row after another: the same matrix however it is divided, and never all of it
            direction = torch.randn(dim, generator=generator)
            if row >= self.first:
                weight[row - self.first] = direction
        self.weight = nn.Parameter(functional.normalize(weight))

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """The mean loss over the faces of all ranks, the same on each.

        Args:
            embedding: (b, D) of this rank, not of unit length; b the same on all ranks.
            labels: (b,) int64, 0..classes - 1.
        """
        unit = functional.normalize(embedding.to(self.weight.dtype))
        if self.ranks > 1:
            unit = _GatherRows.apply(unit)  # type: ignore[no-untyped-call]
            labels = gathered(labels)
        cos = unit @ functional.normalize(self.weight).T
        mine = torch.nonzero((labels >= self.first) & (labels < self.first + cos.shape[1]))[:, 0]
        column = labels[mine] - self.first
        harder = with_margin(cos[mine, column], self.kind, self.margin)
        logits = self.scale * cos.index_put((mine, column), harder)
        loss: Tensor = _SharedCrossEntropy.apply(logits, mine, column, self.ranks)  # type: ignore[no-untyped-call]
        return loss


def run_of(classes: int, rank: int, ranks: int) -> tuple[int, int]:
    """First class of a rank, and one past its last."""
    return classes * rank // ranks, classes * (rank + 1) // ranks


class _SharedCrossEntropy(torch.autograd.Function):
    """Mean cross entropy of (B, C_rank) logits whose other columns lie with other ranks."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, mine: Tensor, column: Tensor, ranks: int) -> Tensor:
        largest = logits.amax(dim=1)
        if ranks > 1:
            dist.all_reduce(largest, dist.ReduceOp.MAX)
        exponential = (logits - largest[:, None]).exp_()
        sums = torch.zeros(2, len(logits), dtype=logits.dtype, device=logits.device)
        sums[0] = exponential.sum(dim=1)
        sums[1, mine] = logits[mine, column] - largest[mine]
        if ranks > 1:
            dist.all_reduce(sums)
        ctx.save_for_backward(exponential.div_(sums[0][:, None]), mine, column)
        return (sums[0].log() - sums[1]).mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        probability, mine, column = ctx.saved_tensors
        slope = probability.clone()
        slope[mine, column] -= 1
        return slope * (gradients[0] / len(slope)), None, None, None


class _GatherRows(torch.autograd.Function):
    """The rows of all ranks, in the order of the ranks.

    Backward: each rank has the part of the slope that its classes give; the parts are summed, and each rank takes its
    own rows. They are multiplied by the number of ranks, since data-parallel training averages over them afterwards.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        return gathered(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        slope = gradients[0].contiguous()
        dist.all_reduce(slope)
        rank, ranks = dist.get_rank(), dist.get_world_size()
        return slope[rank * ctx.count : (rank + 1) * ctx.count] * ranks
