"""Ranks among scores that are read several times and never held: a radix sort's counts without the sort.

The bits of a float, read as a whole number, sort positive numbers as they are and negative ones backwards. So a rank is
found digit by digit: the first pass counts the scores by their upper bits, each further pass counts by the next bits
those that share the upper bits of a wanted score. -0.0 is counted as 0.0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.eval.metrics.verification import Scores

Flags: TypeAlias = NDArray[np.bool_]
Counts: TypeAlias = NDArray[np.int64]
Prefixes: TypeAlias = NDArray[np.uint64]
"""(P,) upper bits that are wanted, rising, each once."""

CHUNK = 1 << 17
"""Scores worked on at once: they stay in the processor's cache."""

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_DIGITS: dict[np.dtype[Any], tuple[int, ...]] = {_FLOAT32: (16, 16), _FLOAT64: (20, 22, 22)}
_IMAGES: dict[np.dtype[Any], np.dtype[Any]] = {_FLOAT32: np.dtype(np.uint32), _FLOAT64: np.dtype(np.uint64)}


class ScoreBlocks(Protocol):
    """Blocks of comparisons, the same ones each time that they are iterated: a list, or a class that computes them."""

    def __iter__(self) -> Iterator[tuple[Scores, Flags]]:
        """Yield (n,) finite scores, float32 or float64 throughout, and (n,) bool, True for genuine."""
        ...


Progress: TypeAlias = Callable[[int, int], None]
"""Called after each block with the number of the pass, from 1, and how many scores that pass has seen."""


class ScoreReader:
    """Reads the blocks, checks them, and hands them out in chunks.

    Attributes:
        dtype: of the scores, known once the first pass has begun.
        passes: how many have begun.

    Raises:
        InvalidValue: blocks that can be read only once.
    """

    def __init__(self, blocks: ScoreBlocks, progress: Progress | None) -> None:
        if isinstance(blocks, Iterator):
            raise InvalidValue(
                f"blocks {type(blocks).__name__}: can be read only once; give a list or a class with __iter__"
            )
        self._blocks, self._progress, self._total = blocks, progress, 0
        self.dtype: np.dtype[Any] = _FLOAT32
        self.passes = 0

    @property
    def digits(self) -> tuple[int, ...]:
        """How many bits each pass looks at, the upper ones first."""
        return _DIGITS[self.dtype]

    def chunks(self) -> Iterator[tuple[Scores, Flags]]:
        """All scores once more.

        Raises:
            InvalidValue: a block of another form, a score that is not finite, or another number of scores than before.
        """
        self.passes += 1
        seen = 0
        for number, (scores, genuine) in enumerate(self._blocks):
            if number == 0 and self.passes == 1 and scores.dtype in _DIGITS:
                self.dtype = scores.dtype
            self._check(number, scores, genuine)
            for start in range(0, len(scores), CHUNK):
                chunk = scores[start : start + CHUNK]
                if self.passes == 1:
                    _check_finite(chunk, number, start)
                yield chunk, genuine[start : start + CHUNK]
            seen += len(scores)
            if self._progress is not None:
                self._progress(self.passes, seen)
        if self.passes > 1 and seen != self._total:
            raise _changed(self.passes, f"{seen} scores, pass 1 gave {self._total}")
        self._total = seen

    def _check(self, number: int, scores: Scores, genuine: Flags) -> None:
        if scores.ndim != 1 or scores.dtype != self.dtype:
            raise InvalidValue(
                f"block {number}: scores of shape {scores.shape}, {scores.dtype}: must be (n,), float32 or float64, of "
                "one type in all blocks"
            )
        if genuine.shape != scores.shape or genuine.dtype != np.bool_:
            raise InvalidValue(
                f"block {number}: genuine of shape {genuine.shape}, {genuine.dtype}: must be bool, one for each of "
                f"{len(scores)} scores"
            )


def count_first(reader: ScoreReader) -> Counts:
    """(2, 1, 2^bits): how many scores, all and genuine, have each value of the upper bits."""
    counts: Counts | None = None
    for scores, genuine in reader.chunks():
        if counts is None:
            counts = np.zeros((2, 1, 1 << reader.digits[0]), np.int64)
        keys = _images(scores) >> sum(reader.digits[1:])
        np.add.at(counts[0, 0], keys, 1)
        np.add.at(counts[1, 0], keys[genuine], 1)
    if counts is None:
        raise InvalidValue("blocks: no score in them; need genuine and impostor scores")
    return counts


def count_next(reader: ScoreReader, level: int, prefixes: Prefixes) -> Counts:
    """(2, P, 2^bits): how many scores, all and genuine, begin with each prefix and have each value of the next bits.

    Args:
        reader: of the scores.
        level: how many digits the prefixes have.
        prefixes: rising.
    """
    bits, shift = reader.digits[level], sum(reader.digits[level + 1 :])
    counts = np.zeros((2, len(prefixes) << bits), np.int64)
    ends = np.concatenate([prefixes, prefixes + np.uint64(1)]) << np.uint64(shift + bits)
    ends[len(prefixes) :] -= np.uint64(1)
    values = ends.astype(_IMAGES[reader.dtype]).view(reader.dtype)
    low, high, wanted = values.min(), values.max(), prefixes.astype(_IMAGES[reader.dtype])
    for scores, genuine in reader.chunks():
        inside = np.flatnonzero((scores >= low) & (scores <= high))  # few, and found at the speed of memory
        images, flags = _images(scores[inside]), genuine[inside]
        own = images >> (shift + bits)
        slots = np.minimum(np.searchsorted(wanted, own), len(wanted) - 1)
        hit = np.flatnonzero(wanted[slots] == own)
        keys = (slots[hit] << bits) + ((images[hit] >> shift) & ((1 << bits) - 1)).astype(np.intp)
        np.add.at(counts[0], keys, 1)
        np.add.at(counts[1], keys[flags[hit]], 1)
    return counts.reshape(2, len(prefixes), 1 << bits)


class Descent:
    """Finds, digit by digit, the highest score at which the counts at or above it cross a line.

    Args:
        crossed: (impostors, genuine) at or above each of falling scores -> bool, first False and then True.

    Attributes:
        prefix: the bits of the score that are known.
        impostors, genuine: how many are above what the prefix stands for, and how many are above or within.
    """

    def __init__(self, crossed: Callable[[Counts, Counts], Flags]) -> None:
        self._crossed, self._known = crossed, 0
        self.prefix = 0
        self.impostors, self.genuine = (0, 0), (0, 0)

    def step(self, scores: Counts, genuine: Counts, number: int) -> None:
        """Go on to the value of the next bits at which the line is crossed.

        Args:
            scores: (2^bits,) all with the present prefix, by their next bits.
            genuine: (2^bits,) the genuine among them.
            number: of the pass that counted them.

        Raises:
            InvalidValue: they are not as many as the pass before counted.
        """
        keys = falling_keys(scores, self.prefix, self._known)
        upto_genuine = self.genuine[0] + np.cumsum(genuine[keys])
        upto_impostors = self.impostors[0] + np.cumsum(scores[keys] - genuine[keys])
        if number > 1 and (
            len(keys) == 0 or (upto_impostors[-1], upto_genuine[-1]) != (self.impostors[1], self.genuine[1])
        ):
            raise _changed(number, "other scores than the pass before")
        place = int(np.argmax(self._crossed(upto_impostors, upto_genuine)))
        key = int(keys[place])
        ends = int(upto_impostors[place]), int(upto_genuine[place])
        self.impostors = ends[0] - int(scores[key] - genuine[key]), ends[0]
        self.genuine = ends[1] - int(genuine[key]), ends[1]
        bits = (len(scores) - 1).bit_length()
        self.prefix, self._known = (self.prefix << bits) | key, self._known + bits

    def value(self, dtype: np.dtype[Any]) -> float:
        """The score, once all bits are known."""
        return float(np.array(self.prefix, _IMAGES[dtype]).view(dtype))


def falling_keys(counts: Counts, prefix: int, known: int) -> NDArray[np.intp]:
    """The keys that occur, after a prefix of ``known`` bits, from the highest score to the lowest."""
    keys = np.flatnonzero(counts)
    if known == 0:
        negative = int(np.searchsorted(keys, len(counts) // 2))
        return np.concatenate([keys[:negative][::-1], keys[negative:]])
    return keys if prefix >> (known - 1) else keys[::-1]


def highest_values(keys: NDArray[np.intp], reader: ScoreReader) -> NDArray[np.float64]:
    """The highest score that has each of these values of the upper bits."""
    shift = sum(reader.digits[1:])
    images = keys.astype(np.uint64) << np.uint64(shift)
    sign = np.uint64(1 << (sum(reader.digits) - 1))
    # Below zero the highest is the least of the bits; -0.0 itself is counted as 0.0, so the next one stands for it.
    highest = np.where(images < sign, images | np.uint64((1 << shift) - 1), np.maximum(images, sign + np.uint64(1)))
    values: NDArray[np.float64] = highest.astype(_IMAGES[reader.dtype]).view(reader.dtype).astype(np.float64)
    return values


def _images(scores: Scores) -> NDArray[np.unsignedinteger]:
    """The bits as whole numbers; -0.0 + 0 is 0.0."""
    images: NDArray[np.unsignedinteger] = (scores + scores.dtype.type(0)).view(_IMAGES[scores.dtype])
    return images


def _check_finite(chunk: Scores, number: int, start: int) -> None:
    finite = np.isfinite(chunk)
    if not finite.all():
        row = int(np.argmin(finite))
        raise InvalidValue(
            f"score {chunk[row]} in block {number}, row {start + row}: must be finite; leave out what cannot be scored"
        )


def _changed(number: int, found: str) -> InvalidValue:
    return InvalidValue(f"pass {number} over the blocks gave {found}: must give the same blocks each time")
