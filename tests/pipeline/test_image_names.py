import pytest

from probface.errors import DataError
from probface.pipeline.image_names import ImageNames

LFW = [
    "lfw-deepfunneled/Anna/Anna_0001.jpg",
    "lfw-deepfunneled/Anna/Anna_0002.jpg",
    "lfw-deepfunneled/Bob/Bob_0001.jpg",
]


@pytest.mark.parametrize(
    ("names", "wanted", "rows"),
    [
        (LFW, ["Bob/Bob_0001", "Anna/Anna_0001"], [2, 0]),
        (LFW, ["Anna_0002", "./Bob/Bob_0001.png"], [1, 2]),
        (["Anna_0001.jpg", "Bob_0001.jpg"], ["data/lfw/Bob/Bob_0001.jpg"], [1]),
        (["data/lfw.bin/0", "data/lfw.bin/1"], ["lfw.bin/1", "/abs/data/lfw.bin/0"], [1, 0]),
        (["x/face.jpg", "face.jpg"], ["face"], [1]),  # the whole name goes before an end of another
        (["a/b.v2", "a/b"], ["b.v2", "b"], [0, 1]),  # no suffix of an image: part of the name
        ([], [], []),
    ],
)
def test_the_shorter_path_is_the_end_of_the_longer(names: list[str], wanted: list[str], rows: list[int]) -> None:
    assert ImageNames(names, "e.npz").rows(wanted).tolist() == rows


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (["a/face.jpg", "b/face.jpg"], ["face"], "image 'face': fits several rows of e.npz"),
        (["b/face.jpg", "face.jpg"], ["a/b/face"], "fits several rows"),
        (LFW, ["Carl/Carl_0001"], r"'Carl/Carl_0001': not in e.npz, where names look like 'lfw-.*\(1 such images\)"),
        (LFW, ["nna_0001"], "not in e.npz"),  # an end of the text, not of the path
        (LFW, ["Anna/Anna_0001", "Anna_0001"], "fits both images 'Anna/Anna_0001' and 'Anna_0001'"),
        (["a.jpg", "a.png"], ["a"], "rows 0 and 1 are both of image 'a'"),
        ([], ["a"], "image 'a': not in e.npz "),
    ],
)
def test_what_is_not_the_only_match_is_refused(names: list[str], wanted: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageNames(names, "e.npz").rows(wanted)


def test_missing_ones_may_be_left_out() -> None:
    found = ImageNames(LFW, "e.npz").rows(["Carl/Carl_0001", "Bob/Bob_0001"], allow_missing=True)
    assert found.tolist() == [-1, 2]
