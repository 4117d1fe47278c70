"""The flip test against the raw embeddings' sums, written out here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drawn_faces import drawn_faces, write_faces
from people_images import write_people_images
from probface.encoder.onnx import Encoder
from probface.eval.face_table import NORM
from probface.face.image import read_image
from probface.pipeline.evaluation.judged import Judged, embed_models
from probface.pipeline.evaluation.mirrored import told_of_mirror, with_mirror
from probface.pipeline.evaluation.request import EvaluationRequest
from probface.pipeline.face_rows import ExportOptions
from probface.readers.item import Item
from probface.readers.open import open_items


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    return list(open_items(write_people_images(tmp_path_factory.mktemp("people"), ["Anna", "Bob"])))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probface.pipeline.evaluation.mirrored.BLOCK_ROWS", 4)


@pytest.mark.usefixtures("small_blocks")
def test_the_sum_and_its_length(items: list[Item], tmp_path: Path) -> None:
    request = EvaluationRequest(tmp_path, tmp_path / "out", models=("sface",), aligned=True)
    (plain,) = embed_models(request, items, ExportOptions(mirror=True))
    one = with_mirror(plain)
    encoder = Encoder("sface", norm=True)
    crops = np.stack([read_image(item.source) for item in items])
    total = np.zeros((len(items), encoder.contract.dim))
    for side in (crops, np.ascontiguousarray(crops[:, :, ::-1])):
        faces = encoder.encode_with_norm(side)
        assert faces.norm is not None
        total += faces.embeddings.mu.astype(np.float64) * np.reshape(faces.norm, (-1, 1))
    length = np.linalg.norm(total, axis=1)
    np.testing.assert_allclose(one.table.embeddings.mu, total / length[:, None], atol=1e-5)
    np.testing.assert_allclose(one.table.measures[NORM], length, rtol=1e-5)
    assert (one.table.measures[NORM] > 1.2 * plain.table.measures[NORM]).all()
    others = set(plain.table.measures) - {NORM}
    assert all((one.table.measures[name] == plain.table.measures[name]).all() for name in others)
    assert len(others) == 2
    assert told_of_mirror([one]) == ", each image with its mirror image"


def test_ready_embeddings_stay_as_they_are(items: list[Item], tmp_path: Path) -> None:
    names = [item.name for item in items]
    ready = write_faces(tmp_path / "mine.npz", drawn_faces(names, names))
    request = EvaluationRequest(tmp_path, tmp_path / "out", models=(), embeddings=(ready,))
    (plain,) = embed_models(request, items, ExportOptions(mirror=True))
    assert with_mirror(plain) is plain
    assert told_of_mirror([plain]) == ""


def test_norms_that_are_not_there(items: list[Item], small_model: Path, tmp_path: Path) -> None:
    request = EvaluationRequest(tmp_path, tmp_path / "out", models=(str(small_model),), aligned=True)
    (known,) = embed_models(request, items, ExportOptions(mirror=True))
    measures = {name: values for name, values in known.table.measures.items() if name != NORM}
    plain = known.with_table(replace(known.table, measures=measures))
    fused = with_mirror(plain)
    assert NORM not in fused.table.measures
    assert plain.export is not None
    assert plain.export.mirror is not None
    total = plain.table.embeddings.mu.astype(np.float64) + plain.export.mirror.embeddings.mu
    np.testing.assert_allclose(
        fused.table.embeddings.mu, total / np.linalg.norm(total, axis=1, keepdims=True), atol=1e-6
    )
    ready = Judged("ready", "", plain.table)
    assert told_of_mirror([fused, ready]) == ", each image with its mirror image (ready embeddings as they are)"
