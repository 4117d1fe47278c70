"""Batch norm over the batch of all ranks, on any device.

torch's own needs a GPU. With this one several processes compute what one process computes on the whole batch; that is
how a run on many machines can be held against a run on one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional


class SyncBatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm1d`` or ``2d`` with the mean and variance of all ranks; each rank has as many rows."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) or (B, C, H, W) to the same shape."""
        if not self.training:
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        axes = (0, *range(2, x.dim()))
        ranks = dist.get_world_size()
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = _sum(wide.mean(dim=axes)) / ranks
        centred = wide - _across(mean, x)
        variance = _sum(centred.square().mean(dim=axes)) / ranks
        self._remember(mean.detach(), variance.detach(), ranks * x.numel() // x.shape[1])
        normal = centred * _across(torch.rsqrt(variance + self.eps), x)
        if self.affine:
            normal = normal * _across(self.weight, x) + _across(self.bias, x)
        return normal.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        share = self.momentum if self.momentum is not None else 0.1
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), share)
        self.num_batches_tracked += 1


def synchronise(module: nn.Module) -> nn.Module:
    """Replace every batch norm below ``module`` by one over all ranks, in place; names, weights and modes stay."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) and not isinstance(child, SyncBatchNorm):
            shared = SyncBatchNorm(child.num_features, child.eps, child.momentum, child.affine)
            if child.running_mean is not None:
                shared.to(child.running_mean.device, child.running_mean.dtype)
            shared.load_state_dict(child.state_dict())
            for parameter, own in zip(shared.parameters(), child.parameters(), strict=True):
                parameter.requires_grad_(own.requires_grad)
            setattr(module, name, shared.train(child.training))
        else:
            synchronise(child)
    return module


class _Sum(torch.autograd.Function):
    """The sum over the ranks; backwards, too, since each rank's values go into the results of all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004  torch gives it
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        slope = gradients[0].clone()
        dist.all_reduce(slope)
        return slope


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


def _across(values: Tensor, x: Tensor) -> Tensor:
    """(C,) along the channels of ``x``."""
    return values.reshape(1, -1, *([1] * (x.dim() - 2)))
