import tracemalloc
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probface.errors import DataError
from probface.pipeline.image_names import MAX_LENGTH, ImageNames

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


def test_names_longer_than_any_path_are_refused() -> None:
    deep = "a/" * (MAX_LENGTH // 2 - 1) + "bc"
    assert ImageNames([deep], "e.npz").rows(["a/bc"]).tolist() == [0]
    with pytest.raises(DataError, match=r"e.npz: name 'a/a/.*has 60002 characters, must be at most 4096; name it with"):
        ImageNames(["a/" * 30_000 + "bc"], "e.npz")
    with pytest.raises(DataError, match=r"the list: name 'x/a/.*has 4098 characters"):
        ImageNames(["bc"], "e.npz").rows(["x/" + deep])


def test_the_memory_follows_the_length_of_the_names() -> None:
    names = ["a/" * 2000 + f"{number:04d}" for number in range(20)]  # every end of each would be 80 MB
    tracemalloc.start()
    try:
        found = ImageNames(names, "e.npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.rows(["a/a/0007"]).tolist() == [7]
    assert peak < 2e6


PATHS = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join)


@given(st.lists(PATHS, unique=True, max_size=6), PATHS)
def test_every_match_is_that_of_comparing_with_each(names: list[str], wanted: str) -> None:
    def ends_alike(one: str, other: str) -> bool:
        first, second = PurePosixPath(one).parts, PurePosixPath(other).parts
        count = min(len(first), len(second))
        return first[-count:] == second[-count:]

    fitting = [row for row, name in enumerate(names) if ends_alike(name, wanted)]
    expected = [names.index(wanted)] if wanted in names else fitting
    index = ImageNames(names, "e.npz")
    if len(expected) > 1:
        with pytest.raises(DataError, match="fits several rows"):
            index.rows([wanted])
    else:
        assert index.rows([wanted], allow_missing=True).tolist() == (expected or [-1])
