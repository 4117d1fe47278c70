"""The semi-hard search at batch 1024, against the forward and backward pass of the batch's score matrix.

    python benchmarks/semi_hard_search.py

Prints the ratio of the medians, measured in turns. 256 people x 4 images, D = 512, two threads.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from probface.loss.identification import distance_matrix, semi_hard
from probface.loss.pairs import Pairs
from probface.score.fast_mls import fast_mls_of_cosine

PEOPLE, IMAGES, DIM, ROUNDS = 256, 4, 512, 30


def main() -> None:
    """Time both, and print the ratio."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    mu = torch.nn.functional.normalize(torch.randn(PEOPLE * IMAGES, DIM))
    log_sigma_sq = torch.randn(PEOPLE * IMAGES, 1).requires_grad_()
    pairs = Pairs.of(torch.arange(PEOPLE).repeat_interleave(IMAGES))
    distance = distance_matrix(mu, log_sigma_sq).detach()

    def matrix() -> None:
        sigma_sq = log_sigma_sq.exp()
        fast_mls_of_cosine(mu @ mu.T, sigma_sq + sigma_sq.T).sum().backward()

    def search() -> None:
        semi_hard(distance, pairs)

    times: dict[Callable[[], None], list[float]] = {matrix: [], search: []}
    for _ in range(ROUNDS):
        for work, taken in times.items():
            began = time.perf_counter()
            work()
            taken.append(time.perf_counter() - began)
    middle = {work: statistics.median(taken) for work, taken in times.items()}
    print(f"score matrix, forward and backward: {1e3 * middle[matrix]:.1f} ms")
    print(f"semi-hard search, {len(pairs.anchor)} genuine pairs: {1e3 * middle[search]:.1f} ms")
    print(f"ratio {middle[search] / middle[matrix]:.2f}")


if __name__ == "__main__":
    main()
