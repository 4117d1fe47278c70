"""Every face of one file against every face of another: all scores, or the best few, exactly."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probface.errors import DataError, InvalidValue
from probface.gallery.exchange import check_apart
from probface.gallery.npz_column import write_column, write_text
from probface.match.exact import SearchIndex
from probface.match.matrix import score_blocks
from probface.match.native import choose_path
from probface.pipeline.embedding_file import EmbeddingFile, read_embeddings
from probface.storage import replacing
from probface.types import METRICS, Embeddings, FloatArray, Metric

BLOCK_SCORES = 1 << 24
"""Scores of the matrix in memory at once: 64 MiB."""
BLOCK_PROBES = 4096
"""Probes to be searched at once."""


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """What :func:`score_files` wrote.

    Attributes:
        out: the file.
        metric: of the scores.
        shape: of the array ``scores`` in it.
        top: how many references of each face, or None for the whole matrix.
        path: name of the code that ran; products of matrices are numpy's in any case.
        prefilter: of the search; None for the matrix.
    """

    out: Path
    metric: Metric
    shape: tuple[int, int]
    top: int | None
    path: str
    prefilter: str | None


def score_files(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    metric: Metric = "fastmls",
    top: int | None = None,
    threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ScoreResult:
    """Score two files of ``probface embed``; the result is written whole or not at all, in blocks.

    Without ``top`` the file holds ``scores`` (N, M) float32. With it, ``scores`` (N, K) float64, best first, and
    ``indices`` (N, K) int64, rows of ``b``. Beside them ``a`` and ``b``, the paths of the images, and ``metric``.

    Args:
        a: N faces.
        b: M faces, of the same model.
        out: ``.npz``.
        metric: ``fastmls``, ``mls`` or ``cosine``.
        top: K; more than M gives M.
        threads: 0 for all cores.
        progress: called with the number of rows done, and of all.

    Raises:
        InvalidValue: files of two models, another suffix, an output that is an input, an unknown metric, or ``top``
            below 1.
        DataError: not such a file.
        StorageError: the output cannot be written.
    """
    target = Path(out)
    if target.suffix != ".npz":
        raise InvalidValue(f"output {target}: must end in .npz")
    check_apart(target, a, b)
    if metric not in METRICS:
        raise InvalidValue(f"metric {metric!r}: must be one of {', '.join(METRICS)}")
    if top is not None and top < 1:
        raise InvalidValue(f"top {top}: must be 1 or more")
    files = (read_embeddings(a), read_embeddings(b))
    for path, file in zip((a, b), files, strict=True):
        if not len(file.rows):
            raise DataError(f"{os.fspath(path)}: 0 faces; there must be one or more")
    if files[0].contract != files[1].contract:
        raise InvalidValue(
            f"{os.fspath(a)} of model {files[0].contract.name!r} and {os.fspath(b)} of model "
            f"{files[1].contract.name!r}: must be of one model; embed both with it"
        )
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        if top is None:
            result = _write_matrix(archive, target, files, metric, threads, progress)
        else:
            result = _write_best(archive, target, files, metric, top, threads, progress)
        for name, file in zip("ab", files, strict=True):
            paths = np.array(file.rows.path, np.str_)
            write_column(archive, name, paths.shape, paths.dtype.str, [paths])
        write_text(archive, "metric", metric)
    return result


def _write_matrix(
    archive: zipfile.ZipFile,
    target: Path,
    files: tuple[EmbeddingFile, EmbeddingFile],
    metric: Metric,
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> ScoreResult:
    a, b = (file.embeddings for file in files)
    blocks = score_blocks(a, b, metric, rows=max(1, BLOCK_SCORES // max(1, len(b))), threads=threads)
    write_column(archive, "scores", (len(a), len(b)), "<f4", _told(blocks, len(a), progress))
    return ScoreResult(
        target, metric, (len(a), len(b)), None, "numpy" if metric == "cosine" else choose_path("auto").name, None
    )


def _told(
    blocks: Iterator[tuple[slice, FloatArray]], total: int, progress: Callable[[int, int], None] | None
) -> Iterator[FloatArray]:
    for rows, scores in blocks:
        yield scores
        if progress is not None:
            progress(rows.stop, total)


def _write_best(
    archive: zipfile.ZipFile,
    target: Path,
    files: tuple[EmbeddingFile, EmbeddingFile],
    metric: Metric,
    top: int,
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> ScoreResult:
    probes, references = (file.embeddings for file in files)
    index = SearchIndex(references, threads=threads)
    parts = []
    for start in range(0, len(probes), BLOCK_PROBES):
        part: Embeddings = probes[start : start + BLOCK_PROBES]
        parts.append(index.search(part, top, metric=metric, threads=threads))
        if progress is not None:
            progress(start + len(part), len(probes))
    shape = (len(probes), min(top, len(references)))
    write_column(archive, "scores", shape, "<f8", [part.scores for part in parts])
    write_column(archive, "indices", shape, "<i8", [part.indices for part in parts])
    report = parts[0].report
    return ScoreResult(target, metric, shape, shape[1], report.path, report.prefilter)
