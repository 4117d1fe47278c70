"""Exact top-k search by cosine, FastMLS or MLS, faster than the field's cosine search.

    index = SearchIndex(references)
    found = index.search(probes, k=10)

The results are those of scoring every pair in float64, on every path and for every number of threads, ties going to the
lower row. docs/exact_search.md has the method and its proof.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path as FilePath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError, InvalidValue
from probface.match import index_file, portable, variances
from probface.match.layout import MAX_DIM, Layout, make_layout
from probface.match.native import PREFILTERS, Path, Prefilter, choose_path, kernel, thread_count
from probface.types import METRICS, Embeddings, Metric


@dataclass(frozen=True, slots=True)
class SearchReport:
    """Which code a search ran, and how much the filter let through.

    Attributes:
        path: ``avx512-vnni``, ``avx-vnni``, ``avx2``, ``neon-dotprod``, ``baseline`` or ``numpy``.
        prefilter: what the cheap products were made of.
        threads: of the compiled code; numpy's matrix product has its own.
        pairs: probes times references.
        rescored: pairs that passed the filter and were scored in float64.
    """

    path: str
    prefilter: Literal["int8", "float32"]
    threads: int
    pairs: int
    rescored: int


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """The best references of N probes.

    Attributes:
        scores: (N, K) float64, best first; K is ``k``, or the number of references where that is less.
        indices: (N, K) int64, rows of the references; -1, with the score -inf, where rows were excluded and fewer than
            ``k`` are left.
        report: which code ran.
    """

    scores: NDArray[np.float64]
    indices: NDArray[np.int64]
    report: SearchReport


class SearchIndex:
    """References, ready to be searched.

    The vectors are used where they are, without a copy, and may be mapped from disk; they must not change. Beside them
    the index holds D + 12 bytes a reference (12 without the int8 filter).

    Args:
        references: M of them, 1 or more.
        prefilter: ``int8`` or ``float32``; ``auto`` has both where compiled code runs, and takes the faster one.
        path: name of the code to run, ``auto`` for the best on this machine.
        threads: to build with; 0 for all cores.

    Raises:
        InvalidValue: no references, or a prefilter or path that is not there.
    """

    def __init__(
        self, references: Embeddings, *, prefilter: Prefilter = "auto", path: str = "auto", threads: int = 0
    ) -> None:
        chosen = choose_path(path)
        if prefilter not in PREFILTERS:
            raise InvalidValue(f"prefilter {prefilter!r}: must be one of {', '.join(PREFILTERS)}")
        if len(references) == 0:
            raise InvalidValue("0 references: a search needs at least one; enrol somebody first")
        if references.dim > MAX_DIM:
            raise InvalidValue(f"D = {references.dim}: must be at most {MAX_DIM}")
        self._path, self._prefilter = chosen, prefilter
        vectors = np.require(references.mu, requirements=["C", "A"])
        # D variances are searched by MLS, which needs no order; by cosine any order does.
        one = np.require(references.sigma_sq[:, 0], requirements=["C", "A"])
        with_codes = prefilter == "int8" or (prefilter == "auto" and chosen.native)
        self._layout = make_layout(
            vectors, one, with_codes=with_codes, threads=thread_count(threads), native=chosen.native
        )
        self._references = references if vectors is references.mu else Embeddings(vectors, references.sigma_sq)
        self.meta: dict[str, Any] = {}
        self.extra: dict[str, NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self._references)

    @property
    def references(self) -> Embeddings:
        """What is searched."""
        return self._references

    def search(
        self,
        probes: Embeddings,
        k: int,
        *,
        metric: Metric = "fastmls",
        prefilter: Prefilter = "auto",
        path: str | None = None,
        threads: int = 0,
    ) -> SearchResult:
        """The k best references of each probe, exactly.

        Args:
            probes: N of them; as wide as the references.
            k: 1 or more. More than there are references gives all of them.
            metric: ``fastmls``, ``mls`` or ``cosine``. With one variance MLS is FastMLS times D / 2, and ranks as
                FastMLS, ties included.
            prefilter: for this search.
            path: for this search.
            threads: 0 for all cores; the results do not depend on it.

        Raises:
            InvalidValue: k below 1, widths that differ, an unknown metric, FastMLS for D variances, or a prefilter that
                the index was built without.
        """
        chosen = self._path if path is None else choose_path(path)
        self._check(probes, k, metric)
        columns, count = min(k, len(self)), thread_count(threads)
        if metric == "mls" and self._references.sigma_sq.shape[1] > 1:
            scores, indices, rescored = variances.search(
                probes, self._references, self._layout.order, columns, path=chosen, threads=count
            )
            return self._result(scores, indices, chosen, "float32", count, rescored)
        int8 = self._choose_prefilter(prefilter, chosen, len(probes)) == "int8"
        scores, indices, rescored = self._run(chosen, probes, columns, metric == "cosine", int8, count)
        if metric == "mls":
            scores *= self._references.dim / 2
        return self._result(scores, indices, chosen, "int8" if int8 else "float32", count, rescored)

    def _run(
        self, path: Path, probes: Embeddings, k: int, cosine: bool, int8: bool, threads: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
        layout, mu = self._layout, np.require(probes.mu, requirements=["C", "A"])
        sigma_sq = np.require(probes.sigma_sq[:, 0], requirements=["C", "A"])
        compiled = kernel() if path.native else None
        if compiled is None:
            return portable.search(self._references.mu, layout, mu, sigma_sq, k, metric_is_cosine=cosine, int8=int8)
        scores, rows = np.empty((len(mu), k)), np.empty((len(mu), k), np.int64)
        parts = {field.name: getattr(layout, field.name) for field in fields(Layout)}
        rescored = compiled.search(
            set=path.name,
            vectors=self._references.mu,
            **parts,
            probes=mu,
            probe_sigma_sq=sigma_sq,
            cosine=cosine,
            k=k,
            int8_filter=int8,
            threads=threads,
            scores=scores,
            rows=rows,
        )
        return scores, rows, rescored

    def _check(self, probes: Embeddings, k: int, metric: Metric) -> None:
        if metric not in METRICS:
            raise InvalidValue(f"metric {metric!r}: must be one of {', '.join(METRICS)}")
        if k < 1:
            raise InvalidValue(f"k = {k}: must be 1 or more")
        ours, theirs = self._references, probes
        if (ours.dim, ours.sigma_sq.shape[1]) != (theirs.dim, theirs.sigma_sq.shape[1]):
            raise InvalidValue(
                f"probes of D = {theirs.dim} with {theirs.sigma_sq.shape[1]} variances, references of D = {ours.dim} "
                f"with {ours.sigma_sq.shape[1]}: must be alike; embed both with one model"
            )
        if metric == "fastmls" and ours.sigma_sq.shape[1] > 1:
            raise InvalidValue("FastMLS of D variances: takes one variance a face; search with mls")

    def _choose_prefilter(self, prefilter: Prefilter, path: Path, probes: int) -> Literal["int8", "float32"]:
        if prefilter not in PREFILTERS:
            raise InvalidValue(f"prefilter {prefilter!r}: must be one of {', '.join(PREFILTERS)}")
        wanted = self._prefilter if prefilter == "auto" else prefilter
        if wanted == "int8" and not self._layout.has_codes:
            raise InvalidValue(
                "prefilter 'int8': this index was built without it; build it with prefilter='int8' or 'auto'"
            )
        if wanted != "auto":
            return wanted
        # A few probes wait for memory, and codes are a quarter of it; for many, products must be fast.
        pays = path.fast_int8 or (path.native and probes < 4)
        return "int8" if pays and self._layout.has_codes else "float32"

    def _result(
        self,
        scores: NDArray[np.float64],
        indices: NDArray[np.int64],
        path: Path,
        prefilter: Literal["int8", "float32"],
        threads: int,
        rescored: int,
    ) -> SearchResult:
        report = SearchReport(path.name, prefilter, threads, len(scores) * len(self), rescored)
        return SearchResult(scores, indices, report)

    def exclude(self, rows: NDArray[np.int64]) -> None:
        """Leave rows out of every search from now on, in this process; they no longer count for ``k``, either.

        A search with fewer than k rows left fills up with the row -1 and the score -inf.
        """
        order, rows = self._layout.order, np.asarray(rows)
        if rows.dtype.kind not in "iu" or len(rows[(rows < 0) | (rows >= len(order))]):
            raise InvalidValue(f"rows {rows.dtype}: must be whole numbers in 0 .. {len(order) - 1}; see np.flatnonzero")
        if not order.flags.writeable:
            raise InvalidValue("this index is mapped for reading only; open it with SearchIndex.open")
        order[np.isin(order, rows)] = -1

    def save(
        self,
        file: str | os.PathLike[str],
        *,
        meta: Mapping[str, Any] | None = None,
        extra: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Write the index and its vectors into one file, whole or not at all, to be opened in no time.

        Args:
            file: the path; replaced if it is there.
            meta: what to keep beside it, as JSON knows it.
            extra: arrays to keep beside it, of M rows; ``exclude``d rows are saved as such.

        Raises:
            StorageError: it cannot be written.
        """
        arrays: dict[str, NDArray[Any]] = {name: getattr(self._layout, name) for name in _PARTS}
        arrays |= {"mu": self._references.mu, "variances": self._references.sigma_sq}
        arrays |= {"extra." + name: values for name, values in (extra or {}).items()}
        index_file.write(FilePath(file), arrays, {"prefilter": self._prefilter, "meta": dict(meta or {})})

    @classmethod
    def open(cls, file: str | os.PathLike[str], *, path: str = "auto") -> SearchIndex:
        """Map a saved index from disk. It was checked when it was made; only its form is checked now.

        ``meta`` and ``extra`` are what was kept beside it.

        Raises:
            DataError: not an index file, or one of another version, or cut off.
        """
        arrays, header = index_file.read(FilePath(file), writable_copies=("order",))
        index = cls.__new__(cls)
        try:
            index._layout = Layout(**{name: arrays[name] for name in _PARTS})
            index._references = index_file.unchecked(arrays["mu"], arrays["variances"])
            index._prefilter, index.meta = header["prefilter"], header["meta"]
        except KeyError as error:
            raise DataError(f"{file}: an index file without {error}; delete it, so that it is made anew") from error
        order, fits = index._layout.order, index._layout.fits(arrays["mu"], arrays["variances"])
        within = fits and (len(order) == 0 or bool(order.min() >= -1 and order.max() < len(order)))
        if not within or index._prefilter not in PREFILTERS:
            raise DataError(
                f"{file}: an index file whose arrays do not fit together; delete it, so that it is made anew"
            )
        index._path = choose_path(path)
        index.extra = {name[6:]: values for name, values in arrays.items() if name.startswith("extra.")}
        return index


_PARTS = tuple(field.name for field in fields(Layout))


def top_k(
    probes: Embeddings, references: Embeddings, k: int, *, metric: Metric = "fastmls", threads: int = 0
) -> SearchResult:
    """The k best references of each probe, for one search; keep a :class:`SearchIndex` for more."""
    return SearchIndex(references, threads=threads).search(probes, k, metric=metric, threads=threads)
