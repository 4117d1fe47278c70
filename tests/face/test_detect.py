import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from skimage.data import astronaut

from probface.errors import InvalidValue, ModelError
from probface.face.detect import Detector, choose_faces
from probface.face.image import read_image
from probface.models.registry import list_models
from probface.models.weights import find_weights
from probface.pipeline.recogniser import open_detector
from probface.types import Face


@pytest.fixture(scope="module")
def detector() -> Detector:
    return open_detector()


def head(height: float) -> np.ndarray:
    """The astronaut's head, scaled so that the face is about ``height`` pixels high (113 in the photo)."""
    cut = np.ascontiguousarray(astronaut()[0:256, 90:346])
    ratio = height / 113
    kind = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
    return cv2.resize(cut, None, fx=ratio, fy=ratio, interpolation=kind)


def pasted(size: tuple[int, int], *heads: tuple[float, int, int]) -> np.ndarray:
    canvas = np.full((*size, 3), 90, np.uint8)
    for height, top, left in heads:
        face = head(height)
        canvas[top : top + face.shape[0], left : left + face.shape[1]] = face
    return canvas


def test_landmarks_are_in_the_stated_order(detector: Detector) -> None:
    (face,) = detector.detect(astronaut())
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    x, y, width, height = face.box
    assert all(x < px < x + width and y < py < y + height for px, py in face.landmarks)
    assert face.detector_score > 0.8


@pytest.mark.parametrize("height", [40, 80, 300, 880])
def test_small_and_large_faces_of_a_2000_pixel_photo(detector: Detector, height: int) -> None:
    image = pasted((2000, 2000), (height, 3, 5))
    (face,) = detector.detect(image)
    assert abs(face.box[3] / height - 1) < 0.15
    (alone,) = detector.detect(astronaut())
    ratio = height / 113
    for (x, y), (ax, ay) in zip(face.landmarks, alone.landmarks, strict=True):
        assert abs(x - 5 - (ax - 90) * ratio) < 0.08 * height
        assert abs(y - 3 - ay * ratio) < 0.08 * height


def test_a_face_that_fills_the_photo(detector: Detector) -> None:
    close = cv2.resize(np.ascontiguousarray(astronaut()[50:185, 155:290]), (2000, 2000), interpolation=cv2.INTER_CUBIC)
    (face,) = detector.detect(close)
    assert face.box[3] > 1400


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(3, 2), (6, 1), (8, 3)])
def test_a_photo_that_lies_on_its_side_is_turned_by_its_exif(
    detector: Detector, orientation: int, quarter_turns: int
) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    stored = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(np.rot90(astronaut(), quarter_turns))).save(stored, "PNG", exif=exif)
    assert detector.detect(read_image(stored.getvalue())) == detector.detect(astronaut())


def test_several_faces_and_who_counts(detector: Detector) -> None:
    image = pasted((700, 1500), (60, 280, 700), (200, 10, 10), (120, 300, 1200))
    faces = detector.detect(image)
    heights = [face.box[3] for face in faces]
    assert len(faces) == 3
    assert heights == sorted(heights, reverse=True)
    size = image.shape[:2]
    assert choose_faces(faces, "all", size) == faces
    assert choose_faces(faces, "largest", size) == faces[:1]
    (central,) = choose_faces(faces, "central", size)
    assert abs(central.box[3] - 60) < 10
    assert choose_faces((), "largest", size) == ()
    with pytest.raises(InvalidValue, match="'best': must be one of largest, central, all"):
        choose_faces(faces, "best", size)  # type: ignore[arg-type]


def test_one_look_knows_the_largest_face(detector: Detector) -> None:
    image = pasted((2000, 2000), (400, 900, 900), (30, 100, 100))
    every, one = detector.detect(image), detector.detect(image, every=False)
    assert len(every) == 2
    assert len(one) == 1
    assert abs(one[0].box[3] / every[0].box[3] - 1) < 0.1
    tiny = pasted((2000, 2000), (30, 900, 900))
    assert len(detector.detect(tiny, every=False)) == 1  # nothing in the first look: the second is taken


@pytest.mark.parametrize("edge", [100, 250, 500, 640, 641, 900])
def test_faces_that_fill_a_photo_and_small_ones_at_every_size(detector: Detector, edge: int) -> None:
    close = cv2.resize(np.ascontiguousarray(astronaut()[50:185, 155:290]), (edge, edge), interpolation=cv2.INTER_AREA)
    (face,) = detector.detect(close)
    assert 0.7 < face.box[3] / edge < 1
    (small,) = detector.detect(pasted((edge, edge), (40, edge - 91, 0)))
    assert abs(small.box[3] / 40 - 1) < 0.2


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((50, 50, 3), np.nan), "dtype float64 with NaN: must be uint8"),
        (np.zeros((50, 50), np.uint8), r"shape \(50, 50\): must be \(height, width, 3\)"),
        (np.zeros((50, 50, 4), np.uint8), r"shape \(50, 50, 4\): must be \(height, width, 3\)"),
        (np.zeros((50, 0, 3), np.uint8), r"shape \(50, 0, 3\): must be \(height, width, 3\)"),
    ],
)
def test_what_is_no_image_is_not_searched(detector: Detector, image: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        detector.detect(image)


@pytest.mark.parametrize("shape", [(20, 20), (5, 3000), (3000, 5), (1, 1), (250, 250)])
def test_images_without_a_face_of_any_shape(detector: Detector, shape: tuple[int, int]) -> None:
    assert detector.detect(np.full((*shape, 3), 128, np.uint8)) == ()


def test_a_small_crop_is_searched_too(detector: Detector) -> None:
    crop = cv2.resize(np.ascontiguousarray(astronaut()[30:205, 130:305]), (40, 40), interpolation=cv2.INTER_AREA)
    (face,) = detector.detect(crop)
    assert 15 < face.size < 35


@pytest.mark.parametrize("edge", [16, 20, 24, 40, 63])
def test_a_crop_that_the_face_fills_is_searched_at_any_size(detector: Detector, edge: int) -> None:
    photo = np.ascontiguousarray(astronaut()[62:177, 172:287])
    (face,) = detector.detect(cv2.resize(photo, (edge, edge), interpolation=cv2.INTER_AREA))
    (whole,) = detector.detect(photo)
    np.testing.assert_allclose(np.array(face.box) / edge, np.array(whole.box) / 115, atol=0.12)
    # YuNet's landmarks on so few pixels are off by a pixel or two each: what counts is that the alignment holds.
    off = np.array(face.landmarks) / edge - np.array(whole.landmarks) / 115
    assert np.sqrt((off**2).sum(axis=1).mean()) < 0.1


@pytest.mark.parametrize("edge", [16, 32])
def test_a_small_crop_of_no_face_stays_without(detector: Detector, edge: int) -> None:
    for top, left in ((380, 20), (250, 200), (0, 380)):
        other = np.ascontiguousarray(astronaut()[top : top + 115, left : left + 115])
        assert detector.detect(cv2.resize(other, (edge, edge), interpolation=cv2.INTER_AREA)) == ()


def test_an_ordinary_photo_is_looked_at_once_as_it_is(detector: Detector) -> None:
    image = np.ascontiguousarray(astronaut()[0:250, 100:350])
    weights = str(find_weights(next(record for record in list_models() if record.kind == "detector")))
    net = cv2.FaceDetectorYN.create(weights, "", (250, 250), 0.6, 0.3, 5000)
    _, rows = net.detect(np.ascontiguousarray(image[..., ::-1]))
    (face,) = detector.detect(image)
    np.testing.assert_array_equal([*face.box, *np.ravel(face.landmarks), face.detector_score], rows[0].astype(float))


def test_threads_find_what_one_thread_finds(detector: Detector) -> None:
    images = [pasted((400, 300 + 17 * k), (90, 40, 10 + k)) for k in range(12)]
    alone = [detector.detect(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, images)) == alone


def test_weights_that_are_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "yunet.onnx"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(
        ModelError, match=r"yunet.onnx: OpenCV [\d.]+ cannot load it as YuNet \(.*\); give YuNet's"
    ) as told:
        Detector(path)
    assert "\n" not in str(told.value)
    assert capfd.readouterr().err == ""


def test_thresholds_out_of_range() -> None:
    with pytest.raises(InvalidValue, match=r"score_threshold 2: must be in \[0, 1\]"):
        Detector(Path("any"), score_threshold=2)


@pytest.mark.parametrize("level", [0, 3])
def test_standard_error_stays_clean_and_the_log_level_as_it_was(level: int) -> None:
    code = (
        f"import cv2; logging = getattr(cv2.utils, 'logging', cv2); logging.setLogLevel({level});"
        "from probface.pipeline.recogniser import open_detector; from skimage.data import astronaut;"
        f"assert len(open_detector().detect(astronaut())) == 1; assert logging.getLogLevel() == {level}"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == ""


def test_a_face_checks_itself() -> None:
    points = ((1.0, 1.0), (2.0, 1.0), (1.5, 2.0), (1.0, 3.0), (2.0, 3.0))
    with pytest.raises(InvalidValue, match="width and height above 0"):
        Face((0, 0, 0, 5), points, 0.9)
    with pytest.raises(InvalidValue, match="five"):
        Face((0, 0, 5, 5), points[:4], 0.9)
    with pytest.raises(InvalidValue, match="finite"):
        Face((float("nan"), 0, 5, 5), points, 0.9)
