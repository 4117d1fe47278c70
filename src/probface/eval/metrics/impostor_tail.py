"""The highest of a known number of impostor scores: exact thresholds in one pass, at the speed of memory.

Where it is known beforehand how many impostors there will be, only the FMR * N + 1 highest can be a threshold. Each
score is compared with the lowest of those held; hardly any is above it after the first few blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.eval.metrics.verification import Scores
from probface.score.calibration import allowed_false_matches

CHUNK = 1 << 17
"""Scores compared at once: they stay in the processor's cache."""


class ImpostorTail:
    """Collects the upper tail of N impostor scores.

    Args:
        count: N, how many there will be.
        fmr: the highest rate that will be asked, in [0, 1).

    Raises:
        InvalidValue: no impostors, or a rate outside [0, 1).
    """

    def __init__(self, count: int, fmr: float) -> None:
        if count < 1 or not 0 <= fmr < 1:
            raise InvalidValue(f"{count} impostors, FMR {fmr}: need an impostor and a rate of at least 0 and below 1")
        self.count = count
        self._keep = self._allowed(fmr) + 1
        self._held: list[Scores] = []
        self._waiting, self._floor = 0, -np.inf

    def add(self, scores: Scores) -> None:
        """Look at more scores, finite ones; those of -inf are passed over, for blocks in which others are masked."""
        for start in range(0, len(scores), CHUNK):
            chunk = scores[start : start + CHUNK]
            above = chunk[np.flatnonzero(chunk > self._floor)]
            self._held.append(above)
            self._waiting += len(above)
            if self._waiting > max(2 * self._keep, CHUNK):
                self._prune()

    def threshold(self, fmr: float) -> float:
        """What :func:`probface.score.calibration.threshold_at` gives on all the scores.

        Raises:
            InvalidValue: a rate outside [0, the highest announced], or too few scores to decide it.
        """
        rank = self._allowed(fmr)
        held = self._prune()
        if not 0 <= rank < self._keep or len(held) < self._keep:
            raise InvalidValue(
                f"FMR {fmr}: needs the {rank + 1} highest impostor scores, {len(held)} of {self._keep} are held; "
                "announce the highest rate and the number of scores beforehand"
            )
        place = len(held) - 1 - rank
        return float(np.partition(held, place)[place])

    def false_matches(self, threshold: float) -> int:
        """How many scores are above a threshold that :meth:`threshold` gave."""
        return int(np.count_nonzero(self._prune() > threshold))

    def _allowed(self, fmr: float) -> int:
        return allowed_false_matches(self.count, fmr)

    def _prune(self) -> Scores:
        """Hold the highest only, and all from now on must be above the lowest of them."""
        held: NDArray[np.floating] = np.concatenate(self._held) if self._held else np.empty(0, np.float32)
        if len(held) > self._keep:
            held = np.partition(held, len(held) - self._keep)[-self._keep :]
        if len(held) == self._keep:
            self._floor = float(held.min())
        self._held, self._waiting = [held], len(held)
        return held
