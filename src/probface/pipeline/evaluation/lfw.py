"""LFW: the 6,000 pairs of ``pairs.txt`` in ten folds (view 2), and the development lists (view 1) if they are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from probface.errors import DataError
from probface.eval.protocols.lfw import lfw_comparisons
from probface.eval.results import Section
from probface.eval.verification.transfer import transferred_accuracy
from probface.pipeline.evaluation.evaluation import Evaluation
from probface.pipeline.evaluation.finish import About
from probface.pipeline.evaluation.judged import Judged, candidates_of, embed_models
from probface.pipeline.evaluation.pairs import judge_pairs
from probface.pipeline.evaluation.request import EvaluationRequest
from probface.readers.lfw import LfwPair, find_lfw, lfw_images, read_pairs

DEVELOPMENT = ("pairsDevTrain.txt", "pairsDevTest.txt")
"""View 1: where a threshold is chosen, and where it is judged."""


def evaluate_lfw(request: EvaluationRequest) -> Evaluation:
    """Judge models on LFW's pairs.

    Raises:
        DataError: the lists or images are not there or broken, a pair comes twice, or an image that a pair names is not
            there (unless the request skips those).
    """
    files = find_lfw(request.data)
    images = {item.name: item for item in lfw_images(request.data)}
    notes: list[str] = []
    pairs = _present(files.pairs, images, request, notes)
    lists = [request.data / name for name in DEVELOPMENT]
    views = [_present(path, images, request, notes) for path in lists if all(path.is_file() for path in lists)]
    comparisons = lfw_comparisons(pairs)
    names = {name for pair in (*pairs, *(pair for view in views for pair in view)) for name in (pair.a, pair.b)}
    judged = embed_models(request, [images[name] for name in sorted(names)])
    about = About("lfw", "Labeled Faces in the Wild", f"LFW, {files.pairs.name}: {len(pairs):,} pairs")
    return judge_pairs(request, judged, comparisons, about, extra=_view_1(request, judged, views), notes=notes)


def _present(path: Path, images: Iterable[str], request: EvaluationRequest, notes: list[str]) -> tuple[LfwPair, ...]:
    """The pairs whose images are there; what is left out is noted."""
    pairs, there = read_pairs(path), frozenset(images)
    lost = sorted({name for pair in pairs for name in (pair.a, pair.b) if name not in there})
    if not lost:
        return pairs
    if request.missing == "error":
        raise DataError(
            f"{path}: image {lost[0]!r} is not in the data set ({len(lost)} such images); get a complete copy, or "
            "leave its pairs out with --missing skip"
        )
    kept = tuple(pair for pair in pairs if not {pair.a, pair.b}.intersection(lost))
    notes.append(
        f"{path.name}: {len(pairs) - len(kept)} pairs are left out, {len(lost)} of their images are not there."
    )
    return kept


def _view_1(
    request: EvaluationRequest, judged: Sequence[Judged], views: Sequence[tuple[LfwPair, ...]]
) -> tuple[Section, ...]:
    if len(views) != len(DEVELOPMENT) or any(one.failed for one in judged):
        return ()
    chosen, decided = (lfw_comparisons(view) for view in views)
    candidates = candidates_of(judged, {*chosen.subjects, *decided.subjects}, request)
    whole = [one for one in candidates if not frozenset(decided.subjects) <= one.trained]
    return (transferred_accuracy(whole, chosen, decided, request.judge),) if whole else ()
