import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from probface.errors import InvalidValue
from probface.face.align import TEMPLATES, align, similarity_transform

ARCFACE = np.array(TEMPLATES["arcface"].points)
finite = st.floats(-200, 200, allow_nan=False)


@settings(deadline=None)
@given(st.lists(st.tuples(finite, finite), min_size=5, max_size=5))
def test_the_transform_is_skimages(points: list[tuple[float, float]]) -> None:
    source = np.array(points)
    if np.linalg.matrix_rank(source - source.mean(0), tol=1e-2) < 2:
        return  # on a line, skimage's SVD may choose a reflection's side differently
    expected = SimilarityTransform.from_estimate(source, ARCFACE)
    np.testing.assert_allclose(similarity_transform(source, ARCFACE), expected.params[:2], atol=1e-6 * 200)


@given(
    scale=st.floats(0.05, 20),
    angle=st.floats(-np.pi, np.pi),
    shift=st.tuples(finite, finite),
)
def test_a_similarity_is_recovered(scale: float, angle: float, shift: tuple[float, float]) -> None:
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = similarity_transform(ARCFACE, ARCFACE @ turn.T + shift)
    np.testing.assert_allclose(matrix, np.column_stack([turn, shift]), atol=1e-8 * scale * 200)


def test_mirrored_points_do_not_make_a_reflection() -> None:
    matrix = similarity_transform(ARCFACE * [-1, 1] + [112, 0], ARCFACE)
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.ones((5, 2)), r"landmarks \[\[1.0, 1.0\], .*: must be finite and apart"),
        (np.full((5, 2), np.nan), r"landmarks \[\[nan, nan\], .*: must be finite and apart"),
        (np.where(ARCFACE > 90, np.inf, ARCFACE), "must be finite and apart"),
        (ARCFACE * 1e200, "must be finite and apart"),
        (np.zeros((4, 2)), r"points of shapes \(4, 2\) and \(5, 2\)"),
        (np.zeros((5, 3)), "points of shapes"),
        (np.zeros((1, 2)), "points of shapes"),
    ],
)
def test_points_that_fix_nothing(points: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        similarity_transform(points, ARCFACE)
    with pytest.raises(InvalidValue, match=r"points of shapes|must be finite and apart"):
        similarity_transform(ARCFACE, points)


def scene(size: int) -> np.ndarray:
    """Smooth colours, so that resampling at any scale is near the truth."""
    y, x = np.mgrid[:size, :size] / size
    return (127 + 120 * np.stack([np.sin(5 * x), np.cos(4 * y), np.sin(3 * (x + y))], axis=2)).astype(np.uint8)


def test_aligned_landmarks_lie_where_the_template_wants_them() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    landmarks = [(100.0, 120.0), (171.0, 118.0), (136.0, 160.0), (108.0, 201.0), (166.0, 200.0)]
    matrix = similarity_transform(landmarks, ARCFACE)
    for point in landmarks:
        cv2.circle(image, (int(point[0]), int(point[1])), 3, (255, 255, 255), -1)
    crop = align(image, landmarks)
    for point in landmarks:
        x, y = matrix @ [*point, 1]
        assert crop[round(y), round(x)].min() > 200


def test_an_ordinary_crop_is_plain_bilinear_warping() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 180, 3), dtype=np.uint8)
    landmarks = [tuple(point) for point in ARCFACE * 1.7 + [3.3, 7.1]]
    matrix = similarity_transform(landmarks, ARCFACE)
    np.testing.assert_array_equal(align(image, landmarks), cv2.warpAffine(image, matrix, (112, 112)))


def test_a_large_face_is_shrunk_without_aliasing_and_without_a_shift() -> None:
    large = scene(1120)
    landmarks = [tuple(point * 10 + 4.5) for point in ARCFACE]  # pixel centres of a tenfold enlargement
    truth = cv2.resize(large, (112, 112), interpolation=cv2.INTER_AREA)
    inner = np.s_[4:-4, 4:-4]
    assert np.abs(align(large, landmarks)[inner].astype(int) - truth[inner]).max() <= 3
    noisy = np.random.default_rng(0).integers(0, 256, (1120, 1120, 3), dtype=np.uint8)
    plain = cv2.warpAffine(noisy, similarity_transform(landmarks, ARCFACE), (112, 112))
    assert align(noisy, landmarks).std() < 0.5 * plain.std()


def test_the_narrow_template_is_the_wide_one_cut() -> None:
    image = scene(150)
    landmarks = [tuple(point + 10) for point in ARCFACE]
    wide, narrow = align(image, landmarks), align(image, landmarks, "arcface-96", (112, 96))
    np.testing.assert_array_equal(narrow, wide[:, 8:104])


def test_the_template_scales_with_the_size() -> None:
    image = scene(400)
    landmarks = [tuple(point * 2 + 30) for point in ARCFACE]
    double = align(image, landmarks, size=(224, 224))
    single = align(image, landmarks, size=(112, 112))
    inner = np.s_[2:-2, 2:-2]
    assert np.abs(double[::2, ::2][inner].astype(int) - single[inner]).max() <= 2


@pytest.fixture(scope="module")
def panorama() -> np.ndarray:
    """Waves of up to 17 grey levels a pixel, so that a small shift shows."""
    y, x = np.mgrid[:380, :40_000].astype(np.float32)
    waves = np.stack([np.sin(x / 7), np.cos(y / 7), np.sin((x + y) / 9)], axis=2)
    return (127 + 120 * waves).astype(np.uint8)


@pytest.mark.parametrize("left", [-30, 5, 20_000, 39_930])
@pytest.mark.parametrize("scale", [0.8, 3.0])
def test_a_very_wide_image_gives_what_its_part_gives(panorama: np.ndarray, left: int, scale: float) -> None:
    start = min(max(0, left - 900), 38_000) // 100 * 100
    part = np.ascontiguousarray(panorama[:, start : start + 2000])
    landmarks = [tuple(point) for point in ARCFACE * scale + [left, 20]]
    expected = align(part, [(px - start, py) for px, py in landmarks])
    assert expected.std() > 30
    # Shrinking rounds the two sizes differently: a tenth of a pixel.
    assert np.abs(align(panorama, landmarks).astype(int) - expected).max() <= (1 if scale < 2 else 5)


@pytest.mark.parametrize("size", [(0, 112), (112, -1)])
def test_a_size_of_nothing(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidValue, match=r"must be \(height, width\), each 1 or more"):
        align(scene(112), [tuple(p) for p in ARCFACE], size=size)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((50, 50, 3), np.nan), "dtype float64 with NaN: must be uint8"),
        (np.zeros((50, 50), np.uint8), r"shape \(50, 50\): must be \(height, width, 3\)"),
        (np.zeros((0, 50, 3), np.uint8), r"shape \(0, 50, 3\): must be \(height, width, 3\)"),
    ],
)
def test_what_is_no_image_is_not_aligned(image: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        align(image, [tuple(p) for p in ARCFACE])


def test_an_unknown_template() -> None:
    with pytest.raises(InvalidValue, match="template 'ffhq': must be one of arcface, arcface-96"):
        align(scene(112), [tuple(p) for p in ARCFACE], "ffhq")
