import io
import os
import tarfile
from pathlib import Path

import pytest

from probface.errors import DataError
from probface.readers.lfw import LfwFiles, LfwPair, find_lfw, lfw_images, people_folds, read_pairs

PEOPLE = "2\n2\nAnna_A\t2\nBert_B\t1\n1\nCem_C\t3\n"
PAIRS = (
    "2\t1\nAnna_A\t1\t2\nAnna_A\t2\tBert_B\t1\n"  # fold 1
    "Cem_C\t1\t3\nCem_C\t2\tCem_D\t1\n"
)
IMAGES = {
    f"{name}/{name}_{i:04d}": f"{name} {i}".encode() for name, n in (("Bert_B", 1), ("Anna_A", 2)) for i in range(n)
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "people.txt").write_text(PEOPLE)
    (tmp_path / "pairs.txt").write_text(PAIRS)
    with tarfile.open(tmp_path / "lfw-deepfunneled.tar", "w") as tar:
        for name, data in IMAGES.items():
            member = tarfile.TarInfo(f"lfw-deepfunneled/{name}.jpg")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        tar.addfile(tarfile.TarInfo("lfw-deepfunneled/readme.txt"))
    return tmp_path


def test_lists(root: Path) -> None:
    assert people_folds(root / "people.txt") == {"Anna_A": 1, "Bert_B": 1, "Cem_C": 2}
    assert read_pairs(root / "pairs.txt") == (
        LfwPair(1, "Anna_A/Anna_A_0001", "Anna_A/Anna_A_0002", True),
        LfwPair(1, "Anna_A/Anna_A_0002", "Bert_B/Bert_B_0001", False),
        LfwPair(2, "Cem_C/Cem_C_0001", "Cem_C/Cem_C_0003", True),
        LfwPair(2, "Cem_C/Cem_C_0002", "Cem_D/Cem_D_0001", False),
    )


def test_one_fold(tmp_path: Path) -> None:
    path = tmp_path / "pairsDevTest.txt"
    path.write_text("1\nA\t1\t2\nA\t2\tB\t1\n")
    assert [pair.fold for pair in read_pairs(path)] == [1, 1]


@pytest.mark.parametrize("packed", [True, False])
def test_images(root: Path, packed: bool) -> None:
    files = find_lfw(root)
    assert files == LfwFiles(root / "people.txt", root / "pairs.txt", root / "lfw-deepfunneled.tar")
    if not packed:
        with tarfile.open(files.images) as tar:
            tar.extractall(root, filter="data")
        files.images.unlink()
    items = lfw_images(root)
    assert items == lfw_images(find_lfw(root).images)
    assert [item.name for item in items] == sorted(IMAGES)
    assert [item.label for item in items] == ["Anna_A", "Anna_A", "Bert_B"]
    sources = [item.source for item in items]
    assert [s if isinstance(s, bytes) else s.read_bytes() for s in sources] == [IMAGES[item.name] for item in items]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("people.txt", "two\n", "line 1: 'two', expected 1 whole number"),
        ("people.txt", "1\n2\nAnna_A\t2\n", "ends at line 3, expected a name and how many images"),
        ("people.txt", "1\n1\nAnna A\t2\n", "line 3: 'Anna A\\t2', expected a name and how many images"),
        ("people.txt", "1\n1\nAnna_A\tx\n", "line 3"),
        ("people.txt", PEOPLE + "\nmore 1\n", "line 8: 'more 1', expected the end"),
        ("pairs.txt", "", "ends at line 0, expected 1 or 2 whole number"),
        ("pairs.txt", "1\t2\t3\n", "line 1"),
        ("pairs.txt", "1\t1\nA\t1\t-2\nA\t1\tB\t2\n", "line 2: 'A\\t1\\t-2', expected a name and two image numbers"),
        ("pairs.txt", "1\t1\nA\t1\t2\nA\t1\tB\n", "line 3: 'A\\t1\\tB', expected two names"),
    ],
)
def test_malformed_lists(root: Path, name: str, text: str, message: str) -> None:
    path = root / name
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        (people_folds if name == "people.txt" else read_pairs)(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_not_text(root: Path) -> None:
    (root / "pairs.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_pairs(root / "pairs.txt")


def test_parts_missing(root: Path) -> None:
    (root / "lfw-deepfunneled.tar").unlink()
    with pytest.raises(DataError, match=r"no lfw\*\.tar and no folder"):
        find_lfw(root)
    (root / "people.txt").unlink()
    with pytest.raises(DataError, match=r"people\.txt: not found"):
        find_lfw(root)
    with pytest.raises(DataError, match="no image named"):
        lfw_images(root)


def test_no_tar(root: Path) -> None:
    (root / "lfw-deepfunneled.tar").write_bytes(b"no tar " * 200)
    with pytest.raises(DataError, match="not a complete plain tar file"):
        lfw_images(root)


REAL = Path(os.environ.get("PROBFACE_LFW", Path(__file__).parents[2] / ".." / "shared" / "data" / "lfw"))


@pytest.mark.skipif(not (REAL / "people.txt").exists(), reason="no LFW: set PROBFACE_LFW to its folder")
def test_the_real_set() -> None:
    files = find_lfw(REAL)
    folds, pairs, items = people_folds(files.people), read_pairs(files.pairs), lfw_images(files.images)
    assert (len(items), len(folds), len(pairs)) == (13233, 5749, 6000)
    assert {item.label for item in items} == set(folds)
    assert {name for pair in pairs for name in (pair.a, pair.b)} <= {item.name for item in items}
    for fold in range(1, 11):
        own = [pair for pair in pairs if pair.fold == fold]
        assert sum(pair.genuine for pair in own) == 300 == len(own) / 2
        assert {folds[name.split("/")[0]] for pair in own for name in (pair.a, pair.b)} == {fold}
    for item in items[::1000]:
        source = item.source
        assert isinstance(source, bytes)
        assert (source[:2], source[-2:]) == (b"\xff\xd8", b"\xff\xd9")
