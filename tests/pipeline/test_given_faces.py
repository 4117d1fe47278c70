"""Faces whose places are given: boxes beyond the edge, numbers that make no sense."""

import numpy as np
import pytest

from probface.errors import InvalidValue, NoFace
from probface.pipeline.given_faces import GivenBox, GivenLandmarks, around, given_digest

POINTS = ((30.0, 40.0), (60.0, 40.0), (45.0, 60.0), (33.0, 80.0), (58.0, 80.0))


def test_what_a_box_covers() -> None:
    image = np.arange(100 * 200 * 3, dtype=np.uint32).reshape(100, 200, 3).astype(np.uint8)
    # Half of the longer edge, 10, on every side.
    np.testing.assert_array_equal(around(image, GivenBox(50, 40, 10, 20), "x"), image[30:70, 40:70])
    np.testing.assert_array_equal(around(image, GivenBox(190, -5, 20, 20), "x"), image[:25, 180:])
    np.testing.assert_array_equal(around(image, GivenBox(-500, -500, 1000, 1000), "x"), image)
    for outside in (GivenBox(300, 10, 20, 20), GivenBox(-90, 10, 20, 20), GivenBox(10, 150, 20, 20)):
        with pytest.raises(NoFace, match=r"image x: 100 x 200 pixels .* lies outside"):
            around(image, outside, "x")


def test_numbers_that_make_no_sense() -> None:
    for box in ((0, 0, 0, 5), (0, 0, 5, -1), (float("nan"), 0, 5, 5), (0, float("inf"), 5, 5)):
        with pytest.raises(InvalidValue, match="need finite x, y, width and height"):
            GivenBox(*box)
    for points, score in ((POINTS[:4], 1.0), (((1.0, 2.0, 3.0), *POINTS[1:]), 1.0), (POINTS, float("nan"))):
        with pytest.raises(InvalidValue, match=r"need five \(x, y\)"):
            GivenLandmarks(points, score)


def test_digests_tell_faces_apart() -> None:
    faces = [GivenLandmarks(POINTS, 0.9), GivenLandmarks(POINTS, 0.8), GivenBox(1, 2, 3, 4), GivenBox(1, 2, 3, 5)]
    assert len({given_digest(face) for face in faces}) == len(faces)
    assert given_digest(GivenBox(1, 2, 3, 4)) == given_digest(GivenBox(1, 2, 3, 4))
