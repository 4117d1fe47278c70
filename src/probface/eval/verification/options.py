"""What a judgement of comparisons can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probface.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """How comparisons are judged.

    Attributes:
        fmrs: false-match rates of the table of thresholds and of TMR, falling.
        fmr: the rate whose threshold decides where one threshold must do: error versus discard, groups, worst errors.
            Where there are too few impostors for it, the next larger one of ``fmrs`` takes its place, with a note.
        rejected: shares of the comparisons to reject, rising from 0.
        resamples: of the intervals, over subjects.
        confidence: of the intervals.
        seed: of the resamples and of the deal into halves.
        ladder: how many faces the quality ladder shows.
        worst: how many errors of each kind are shown for each system.
        groups: subject -> group, to compare error rates of groups; subjects that are not in it take no part there.
    """

    fmrs: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    fmr: float = 1e-3
    rejected: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.3)
    resamples: int = 200
    confidence: float = 0.95
    seed: int = 0
    ladder: int = 24
    worst: int = 6
    groups: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        rates = (*self.fmrs, self.fmr)
        if not self.fmrs or not all(0 < rate < 1 for rate in rates):
            raise InvalidValue(f"false-match rates {rates}: need one or more, each between 0 and 1")
        if list(self.fmrs) != sorted(set(self.fmrs), reverse=True):
            raise InvalidValue(f"false-match rates {self.fmrs}: must fall, each once")
        rising = all(a < b for a, b in zip(self.rejected, self.rejected[1:], strict=False))
        if self.rejected[:1] != (0.0,) or not rising or self.rejected[-1] >= 1:
            raise InvalidValue(f"shares to reject {self.rejected}: must rise from 0 and stay below 1")
        if self.resamples < 1 or not 0 < self.confidence < 1:
            raise InvalidValue(
                f"{self.resamples} resamples, confidence {self.confidence}: need one or more, and a confidence between "
                "0 and 1"
            )
        if self.ladder < 0 or self.worst < 0:
            raise InvalidValue(f"ladder {self.ladder}, worst {self.worst}: must not be negative")
