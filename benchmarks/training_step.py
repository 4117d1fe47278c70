"""A step of head training against the bare matrix products of its first layer, forward and backward.

    python benchmarks/training_step.py

Batch 128 = 32 people x 4 images, 2112 features (SFace), all three losses on, sampling and gathering from the cached
features included. Both are timed in turn, in one process; the ratio of the medians is the claim (at most 2.7).
"""

from __future__ import annotations

import time

import numpy as np
import torch

from probface.nn.uncertainty_head import UncertaintyHead
from probface.train.config import LossConfig, OptimiserConfig
from probface.train.feature_source import TrainingFeatures
from probface.train.fit import genuine_pairs, sgd, training_step
from probface.train.sampler import BalancedSampler

IMAGES, FEATURES, DIM, COPIES, STEPS = 4000, 2112, 128, 10, 400


def main() -> None:
    rng = np.random.default_rng(0)
    copies = [rng.normal(size=(IMAGES, FEATURES)).astype(np.float32) for _ in range(COPIES)]
    features = TrainingFeatures(copies, [1.0] * COPIES, np.repeat(np.arange(IMAGES // 4), 4), DIM)
    config = OptimiserConfig()
    batch = config.people * config.images
    weight, inputs, gradient = torch.randn(256, FEATURES), torch.randn(batch, FEATURES), torch.randn(batch, 256)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for mining in ("semi_hard", "all"):
        head = UncertaintyHead(FEATURES).train()
        optimiser = sgd(head, config)
        sampler = BalancedSampler(features.people, features.shares, people=config.people, images=config.images, seed=0)
        loss = LossConfig(lambda_c=0.1, lambda_id=0.1, mining=mining)  # type: ignore[arg-type]
        bare, step = np.empty(STEPS), np.empty(STEPS)
        for k in range(STEPS):
            began = time.perf_counter()
            _ = inputs @ weight.T, gradient.T @ inputs
            middle = time.perf_counter()
            images, variants, labels = sampler(k)
            fused = features.rows(images, variants)
            training_step(head, optimiser, fused, DIM, genuine_pairs(labels, images), loss)
            bare[k], step[k] = middle - began, time.perf_counter() - middle
        ratio = np.median(step) / np.median(bare)
        print(f"{mining:10s} step / bare products = {ratio:.2f}   ({1 / np.median(step):.0f} steps a second)")


if __name__ == "__main__":
    main()
