"""Lists in MATLAB's own form, written by scipy; the real ones against scipy's reader; damaged and hostile files."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from probface.errors import DataError
from probface.readers import mat_file
from probface.readers.blufr import read_blufr
from probface.readers.mat_file import read_mat

REAL = Path(os.environ.get("PROBFACE_LFW", Path(__file__).parents[2] / ".." / "shared" / "data" / "lfw"))

PEOPLE = [("Ann_A", 2), ("Bo", 2), ("Cem_C", 1), ("Dee", 3)]
IMAGES = [f"{name}_{number:04d}.jpg" for name, count in PEOPLE for number in range(1, count + 1)]


def cell(*values: object) -> np.ndarray:
    array = np.empty((len(values), 1), object)
    for row, value in enumerate(values):
        array[row, 0] = value if isinstance(value, str) else np.array(value, np.uint16).reshape(-1, 1)
    return array


def content(**changes: object) -> dict[str, Any]:
    """Images 1, 2 are Ann's, 3, 4 Bo's, 5 Cem's, 6..8 Dee's."""
    lists = {
        "imageList": cell(*IMAGES),
        "labels": np.array([1, 1, 2, 2, 3, 4, 4, 4], np.uint16).reshape(-1, 1),
        "trainIndex": cell([1, 2], [3]),
        "testIndex": cell([3, 4, 5, 6, 7], [1, 2, 5, 6, 8]),
        "galIndex": cell([3, 6], [1, 8]),
        "probIndex": cell([4, 5, 7], [2, 5, 6]),
        "devTrainIndex": np.array([[1], [3]], np.uint16),
        "devTestIndex": np.array([[6], [8]], np.uint16),
    }
    return {key: value for key, value in (lists | changes).items() if value is not None}


def write(folder: Path, *, compress: bool = True, **changes: object) -> Path:
    path = folder / "blufr_lfw_config.mat"
    scipy.io.savemat(path, content(**changes), do_compression=compress)
    return path


@pytest.mark.parametrize("compress", [True, False])
def test_lists(tmp_path: Path, compress: bool) -> None:
    lists = read_blufr(write(tmp_path, compress=compress))
    assert lists.names[:3] == ("Ann_A/Ann_A_0001", "Ann_A/Ann_A_0002", "Bo/Bo_0001")
    assert lists.labels.tolist() == [1, 1, 2, 2, 3, 4, 4, 4]
    first, second = lists.trials
    assert [rows.tolist() for rows in (first.train, first.test, first.gallery, first.probes)] == [
        [0, 1],
        [2, 3, 4, 5, 6],
        [2, 5],
        [3, 4, 6],
    ]
    assert second.gallery.tolist() == [0, 7]
    assert (lists.development_train.tolist(), lists.development_test.tolist()) == ([0, 2], [5, 7])
    assert lists.person(4) == "Cem_C"


def test_rows_are_sorted(tmp_path: Path) -> None:
    lists = read_blufr(write(tmp_path, devTestIndex=np.array([8.0, 6.0])))
    assert lists.development_test.tolist() == [5, 7]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imageList": None}, "no cell 'imageList'"),
        ({"galIndex": None}, "no cell 'galIndex'"),
        ({"galIndex": np.arange(3)}, "no cell 'galIndex'"),
        ({"labels": None}, "labels is missing"),
        ({"devTestIndex": None}, "devTestIndex is missing"),
        ({"devTestIndex": "text"}, "devTestIndex is missing or not of whole numbers"),
        ({"labels": np.ones(7)}, "7 labels for 8 images"),
        ({"labels": np.full(8, 1.5)}, "labels is missing or not of whole numbers"),
        ({"labels": np.full(8, np.nan)}, "labels is missing or not of whole numbers"),
        ({"labels": np.full(8, 1e300)}, "labels is missing or not of whole numbers"),
        ({"labels": np.array([1, 1, 2, 2, 2, 4, 4, 4])}, "image 'Cem_C/Cem_C_0001' has the label 2"),
        ({"labels": np.array([1, 9, 2, 2, 3, 4, 4, 4])}, "image 'Ann_A/Ann_A_0002' has the label 9"),
        ({"imageList": cell(*IMAGES[:7], "Dee.jpg")}, r"imageList\{8\} is 'Dee.jpg'"),
        ({"imageList": cell(*IMAGES[:7], "../Dee_0003.jpg")}, r"imageList\{8\} is '../Dee_0003.jpg'"),
        ({"imageList": cell(*IMAGES[:7], IMAGES[6])}, "image 'Dee/Dee_0002' is in imageList twice"),
        ({"imageList": cell(*IMAGES[:7], [3])}, r"imageList\{8\} is an array: must be a name"),
        ({"imageList": cell(*IMAGES[:7], range(500))}, r"imageList\{8\} is an array: must be a name"),
        ({"trainIndex": cell([1, 2])}, r"\[1, 2, 2, 2\] lists of train"),
        (
            {"testIndex": cell([3, 4, 5, 6, 9], [1, 2, 5, 6, 8])},
            r"testIndex\{1\} has the image number 9: must be in 1..8",
        ),
        ({"testIndex": cell([3, 4, 5, 6, 7], [0, 1, 2, 5, 6, 8])}, r"testIndex\{2\} has the image number 0"),
        ({"testIndex": cell([3, 4, 5, 6, 6], [1, 2, 5, 6, 8])}, r"testIndex\{1\} has 5 numbers, 4 different"),
        ({"probIndex": cell([4, 5, 7], [])}, r"probIndex\{2\} has 0 numbers"),
        ({"galIndex": cell([3, 8], [1, 8])}, r"galIndex\{1\} has image 'Dee/Dee_0003': must be in testIndex"),
        ({"probIndex": cell([4, 5, 7], [2, 3])}, r"probIndex\{2\} has image 'Bo/Bo_0001': must be in testIndex"),
        ({"probIndex": cell([4, 6], [2, 5, 6])}, "trial 1 has image 'Dee/Dee_0001' as gallery image and probe"),
        ({"galIndex": cell([3, 6, 7], [1, 8]), "probIndex": cell([4, 5], [2])}, r"galIndex\{1\} has 2 images of 'Dee'"),
        ({"trainIndex": cell([1, 8], [3])}, "trial 1 has 'Dee' among its people to train and to test"),
        ({"devTrainIndex": np.array([1, 7])}, "development has 'Dee' among its people to train and to test"),
    ],
)
def test_refuses_lists(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        read_blufr(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_overlap_on_request(tmp_path: Path) -> None:
    path = write(tmp_path, trainIndex=cell([1, 8], [3]))
    assert read_blufr(path, allow_overlap=True).trials[0].train.tolist() == [0, 7]


def test_other_numbers_and_texts(tmp_path: Path) -> None:
    """Every numeric class, a text beyond ASCII, an empty array, and kinds that are left out."""
    kinds = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64]
    arrays = {f"a{i}": np.array([[1, 2, 3], [4, 5, 100]], kind) for i, kind in enumerate(kinds)}
    path = tmp_path / "x.mat"
    scipy.io.savemat(
        path, arrays | {"text": "Zoë Ω", "none": np.empty((0, 3)), "other": {"field": 1.0}, "a_cell": cell("a", [7])}
    )
    found = read_mat(path)
    for name in arrays:
        assert np.array_equal(found[name], [1, 4, 2, 5, 3, 100])  # column by column
    assert found["text"] == "Zoë Ω"
    assert len(found["none"]) == 0
    assert "other" not in found
    text, numbers = found["a_cell"]
    assert (text, numbers.tolist()) == ("a", [7])


def element(order: str, kind: int, data: bytes) -> bytes:
    return struct.pack(order + "II", kind, len(data)) + data + bytes(-len(data) % 8)


def array(order: str, kind: int, sizes: tuple[int, ...], name: str, data: bytes) -> bytes:
    parts = element(order, 6, struct.pack(order + "II", kind, 0))
    parts += element(order, 5, struct.pack(f"{order}{len(sizes)}i", *sizes))
    return element(order, 14, parts + element(order, 1, name.encode()) + data)


def file(order: str, *elements: bytes, version: int = 0x0100) -> bytes:
    mark = b"IM" if order == "<" else b"MI"
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(order + "H", version) + mark + b"".join(elements)


def test_big_endian(tmp_path: Path) -> None:
    numbers = array(">", 11, (2, 1), "numbers", element(">", 4, struct.pack(">HH", 3, 500)))
    text = array(">", 4, (1, 2), "text", element(">", 4, "hΩ".encode("utf-16-be")))
    (tmp_path / "x.mat").write_bytes(file(">", numbers, text))
    found = read_mat(tmp_path / "x.mat")
    assert found["numbers"].tolist() == [3, 500]
    assert found["text"] == "hΩ"
    assert scipy.io.loadmat(tmp_path / "x.mat")["numbers"].ravel().tolist() == [3, 500]


def test_every_truncation(tmp_path: Path) -> None:
    """Cut anywhere, a file is refused, or has fewer variables: the lists are then refused."""
    whole = write(tmp_path, compress=False).read_bytes()
    path = tmp_path / "cut.mat"
    for length in range(0, len(whole) - 1, 3):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_blufr(path)


def test_damaged_bytes(tmp_path: Path) -> None:
    """A byte changed anywhere gives the lists or a DataError, nothing else."""
    rng = np.random.default_rng(6)
    path = tmp_path / "damaged.mat"
    for compress in (False, True):
        whole = write(tmp_path, compress=compress).read_bytes()
        refused = 0
        for place in rng.integers(124, len(whole), 400):
            damaged = bytearray(whole)
            damaged[place] ^= int(rng.integers(1, 256))
            path.write_bytes(damaged)
            try:
                read_blufr(path)
            except DataError:
                refused += 1
        assert refused > 100


def nested(depth: int) -> bytes:
    inner = array("<", 6, (1, 1), "", element("<", 9, struct.pack("<d", 1)))
    for level in range(depth):
        inner = array("<", 1, (1, 1), "labels" if level == depth - 1 else "", inner)
    return inner


DOUBLE = element("<", 9, struct.pack("<d", 1))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no mark of byte order"),
        (b"PK\3\4" * 50, "no mark of byte order"),
        (file("<", version=0x0200), "save it with -v7, not -v7.3"),
        (file("<", nested(2)), "cell 'labels' holds something else"),
        (file("<", nested(3000)), "cell 'labels' holds something else"),
        (file("<", array("<", 1, (1000, 1000), "x", b"")), "has 0 parts, must be 1000000 arrays"),
        (file("<", array("<", 6, (-1, 1), "x", DOUBLE)), "an array of size"),
        (file("<", array("<", 6, (2**31 - 1, 2**31 - 1), "x", DOUBLE)), "1 numbers in an array of 46116"),
        (file("<", array("<", 9, (1,) * 33, "x", DOUBLE)), "an array of 33 dimensions, must be at most 32"),
        (
            file("<", element("<", 15, zlib.compress(array("<", 9, (2**31 - 1,) * 20_000, "x", DOUBLE)))),
            "an array of 20000 dimensions, must be at most 32",
        ),
        (file("<", array("<", 6, (1, 1), "x", b"")), "an array without data"),
        (file("<", array("<", 6, (1, 1), "x", element("<", 99, b""))), "numbers of kind 99"),
        (file("<", array("<", 4, (1, 1), "x", element("<", 7, b""))), "a text of kind 7"),
        (file("<", array("<", 4, (1, 1), "x", element("<", 16, b"\xff"))), "utf-8"),
        (file("<", element("<", 14, b"")), "an array without flags"),
        (file("<", element("<", 7, b"")), "an element of kind 7 where a variable must be"),
        (file("<", struct.pack("<II", 14, 2**32 - 1)), "an element of 4294967295 bytes where 0 are left"),
        (file("<", struct.pack("<II", 14 | 7 << 16, 0)), "a short element of 7 bytes"),
        (file("<", element("<", 15, b"no zlib stream")), "no sound MATLAB 5 file"),
        (file("<", element("<", 15, zlib.compress(DOUBLE * 2)[:-6])), "compressed data that end too early"),
        (file("<", element("<", 15, zlib.compress(DOUBLE * 2))), "2 elements in one compressed"),
        (file("<", element("<", 15, zlib.compress(element("<", 15, b"")))), "an element of kind 15"),
    ],
)
def test_hostile_files(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "hostile.mat"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_mat(path)
    assert "\n" not in str(caught.value)


def test_as_many_dimensions_as_there_may_be(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(file("<", array("<", 6, (1,) * 32, "x", DOUBLE)))
    assert read_mat(path)["x"].tolist() == [1.0]


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mat_file, "LARGEST_BYTES", 1 << 20)
    monkeypatch.setattr(mat_file, "MOST_PARTS", 1000)
    path = tmp_path / "large.mat"
    bomb = array("<", 9, (1 << 21, 1), "x", element("<", 2, bytes(1 << 21)))
    for data, message in (
        (file("<", bomb), "larger than 1 MiB"),
        (file("<", element("<", 15, zlib.compress(bomb))), "decompresses to more than 1 MiB"),
        (file("<", array("<", 1, (2000, 1), "x", element("<", 14, b"") * 2000)), "an array of more than 1000 parts"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=message):
            read_mat(path)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.mat", tmp_path):
        with pytest.raises(DataError, match=r"give a readable \.mat file"):
            read_blufr(path)


@pytest.mark.skipif(not (REAL / "blufr").is_dir(), reason="needs BLUFR's lists in ../shared")
def test_the_real_lists() -> None:
    path = REAL / "blufr" / "blufr_lfw_config.mat"
    lists, reference = read_blufr(path), scipy.io.loadmat(path)
    assert len(lists.trials) == 10
    assert [name.split("/")[1] + ".jpg" for name in lists.names] == [row[0].item() for row in reference["imageList"]]
    assert np.array_equal(lists.labels, reference["labels"][:, 0])
    for key, field in (
        ("trainIndex", "train"),
        ("testIndex", "test"),
        ("galIndex", "gallery"),
        ("probIndex", "probes"),
    ):
        for trial, rows in zip(lists.trials, reference[key][:, 0], strict=True):
            assert np.array_equal(getattr(trial, field), rows[:, 0].astype(int) - 1)
    assert (len(lists.names), len(np.unique(lists.labels))) == (13_233, 5_749)
    assert {len(trial.gallery) for trial in lists.trials} == {1000}
    assert (len(lists.development_train), len(lists.development_test)) == (521, 673)
