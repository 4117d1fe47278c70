from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper
from people_folder import write_people

from probface.encoder.onnx import Encoder
from probface.errors import DataError, InvalidValue, ModelError, ModelNotFound
from probface.export import one_file
from probface.export.accuracy import choose_images, parity, random_crops
from probface.export.one_file import ImageCount, export_model
from probface.models.graph import make_batch_dynamic
from probface.models.registry import resolve_model


@pytest.fixture(scope="module")
def model(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network and a head of random weights."""
    return write_model(tmp_path_factory.mktemp("model") / "small.onnx")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 people of 3 images; one image of a judge and one of somebody who calibrates are broken."""
    folder = write_people(tmp_path_factory.mktemp("people"), 20)
    chosen = choose_images(folder)
    for item in (chosen.judging[0], chosen.calibration[0]):
        (folder / str(item.label) / Path(item.name).name).write_bytes(b"no image")
    return folder


def test_what_it_tells_without_images(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "half.onnx"
    result = export_model(model, str(out), precision="float16")
    assert (result.out, result.model, result.precision) == (out, "random", "float16")
    assert result.size == out.stat().st_size < result.float32_size == model.stat().st_size
    assert (result.data, result.judging, result.calibration, result.accuracy) == (None, None, None, None)
    crops = random_crops(resolve_model(model).contract.input)
    assert result.parity.angle_max > 0
    assert result.parity == parity(Encoder(model).encode(crops), Encoder(out).encode(crops))


def test_what_it_tells_with_images(model: Path, people: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    result = export_model(
        model, tmp_path / "int8.onnx", precision="int8", data=people, aligned=True, progress=lambda *t: told.append(t)
    )
    assert result.data == people
    assert result.judging == ImageCount(45, 1)
    assert result.calibration == ImageCount(15, 1)
    assert result.parity.faces == 44
    assert result.accuracy is not None
    assert result.accuracy.people == 15
    last = {label: (done, total) for label, done, total in told}
    assert last == {
        "finding faces for judging": (45, 45),
        "finding faces for calibration": (15, 15),
        "calibrating": (14, 14),
        "float32 on faces": (44, 44),
        "int8 on faces": (44, 44),
    }


def test_only_int8_looks_for_faces_to_calibrate_with(model: Path, people: Path, tmp_path: Path) -> None:
    result = export_model(model, tmp_path / "same.onnx", data=people, aligned=True, images=3)
    assert (result.calibration, result.judging) == (None, ImageCount(3, 1))
    assert result.parity.difference == 0
    assert result.size == result.float32_size


def test_one_face_or_nobody_in_particular_gives_no_accuracy(model: Path, people: Path, tmp_path: Path) -> None:
    one = export_model(model, tmp_path / "same.onnx", data=people, aligned=True, images=2)
    assert (one.parity.faces, one.accuracy) == (1, None)
    nobody = export_model(model, tmp_path / "same.onnx", data=write_people(tmp_path / "one", 1, images=8), aligned=True)
    assert (nobody.parity.faces, nobody.accuracy) == (6, None)


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_float32_file_that_differs_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None
) -> None:
    def spoilt(given: ModelProto) -> ModelProto:
        made = make_batch_dynamic(given)
        weight = next(tensor for tensor in made.graph.initializer if len(tensor.dims) == 4)
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.1), weight.name))
        return made

    out = tmp_path / "model.onnx"
    if old is not None:
        out.write_bytes(old)
    monkeypatch.setattr(one_file, "make_batch_dynamic", spoilt)
    with pytest.raises(ModelError, match=r"float32 file: mu or log sigma\^2 differs by .* must be 0.0001 at most"):
        export_model(model, out)
    assert [(path, path.read_bytes()) for path in tmp_path.iterdir()] == ([] if old is None else [(out, old)])
    assert export_model(model, out, precision="float16").parity.difference > one_file.LARGEST_DIFFERENCE


def test_what_is_refused_leaves_nothing(model: Path, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "model.onnx"
    with pytest.raises(InvalidValue, match=r"output .*model\.tflite: must end in \.onnx"):
        export_model(model, out.with_suffix(".tflite"))
    with pytest.raises(InvalidValue, match="precision 'int4': must be one of float32, float16, int8"):
        export_model(model, out, precision="int4")  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="precision int8: needs faces to calibrate with"):
        export_model(model, out, precision="int8")
    with pytest.raises(InvalidValue, match="images 0"):
        export_model(model, out, data=people, images=0)
    with pytest.raises(ModelNotFound, match="neither a name"):
        export_model("nobody", out)
    with pytest.raises(DataError, match="no face in any of 45 images"):
        export_model(model, out, data=people)
    assert list(tmp_path.iterdir()) == []
