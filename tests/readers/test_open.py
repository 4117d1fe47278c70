import os
import pickle
import struct
import tarfile
from pathlib import Path

import pytest

from probface.errors import DataError
from probface.readers.folder import read_folder
from probface.readers.item import Item
from probface.readers.open import open_items


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ("b.JPG", "notes.txt", "notes.md", "ann/2.png", "ann/10.webp", "bob/deep/er/x.tiff", "no_image/.jpg"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (root / "empty").mkdir()
    return root


def test_folder(photos: Path) -> None:
    items = list(open_items(photos))
    names = ["ann/10.webp", "ann/2.png", "b.JPG", "bob/deep/er/x.tiff"]
    assert [item.name for item in items] == [(photos / name).as_posix() for name in names]
    assert [item.label for item in items] == ["ann", "ann", "photos", "er"]
    assert [item.source for item in items] == [photos / name for name in names]


def test_links_are_followed_and_loops_end(photos: Path, tmp_path: Path) -> None:
    (photos / "loop").symlink_to(photos)
    (photos / "ann" / "up").symlink_to("..")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "y.jpg").touch()
    (photos / "link").symlink_to(tmp_path / "elsewhere")
    (photos / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(photos / "pipe.jpg")
    names = [item.name.removeprefix(photos.as_posix()) for item in open_items(photos)]
    assert names == ["/ann/10.webp", "/ann/2.png", "/b.JPG", "/bob/deep/er/x.tiff", "/link/y.jpg", "/self.jpg"]


def test_folder_is_read_bit_by_bit(photos: Path) -> None:
    items = read_folder(photos)
    assert next(items).name.endswith("ann/10.webp")
    (photos / "bob" / "deep" / "late.jpg").touch()  # not listed yet
    assert [item.name.rsplit("/", 1)[1] for item in items] == ["2.png", "b.JPG", "x.tiff", "late.jpg"]


def test_here(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    assert [(item.name, item.label) for item in open_items(".")][2] == ("b.JPG", "photos")
    assert [(item.name, item.label) for item in open_items("*.JPG")] == [("b.JPG", "photos")]


def test_glob(photos: Path) -> None:
    (photos / "folder.png").mkdir()
    items = list(open_items(f"{photos}/**/*.[pw]*"))
    assert [item.name for item in items] == [f"{photos.as_posix()}/ann/10.webp", f"{photos.as_posix()}/ann/2.png"]
    assert {item.label for item in items} == {"ann"}


def test_patterns_end_at_loops_and_leave_hidden_files_out(photos: Path) -> None:
    (photos / "loop").symlink_to(photos)
    (photos / "ann" / "up").symlink_to("..")
    (photos / ".trash").mkdir()
    for name in (".trash/old.jpg", "ann/._2.png"):
        (photos / name).touch()
    every = ["/ann/10.webp", "/ann/2.png", "/b.JPG", "/bob/deep/er/x.tiff"]
    for pattern in ("**/*", "**", "**/**", "**/*.*"):
        assert [item.name.removeprefix(photos.as_posix()) for item in open_items(f"{photos}/{pattern}")] == every
    assert [item.name.rsplit("/", 1)[1] for item in open_items(f"{photos}/**/.*.png")] == ["._2.png"]
    assert [item.name.rsplit("/", 1)[1] for item in open_items(f"{photos}/a**n/*.png")] == ["2.png"]


def test_a_name_with_signs_of_a_pattern(photos: Path) -> None:
    path = photos / "me [1].jpg"
    path.touch()
    assert list(open_items(path)) == [Item(path.as_posix(), path)]


def test_image(photos: Path) -> None:
    assert list(open_items(str(photos / "b.JPG"))) == [Item((photos / "b.JPG").as_posix(), photos / "b.JPG", None)]


def test_containers(tmp_path: Path) -> None:
    (tmp_path / "set.bin").write_bytes(pickle.dumps(([b"a", b"b"], [True])))
    content = struct.pack("<IfQQ", 0, 1, 0, 0) + b"image..."
    (tmp_path / "set.rec").write_bytes(struct.pack("<II", 0xCED7230A, len(content)) + content)
    (tmp_path / "x.jpg").write_bytes(b"in tar")
    with tarfile.open(tmp_path / "set.TAR", "w") as tar:
        tar.add(tmp_path / "x.jpg", "x.jpg")
    assert [item.source for item in open_items(tmp_path / "set.bin")] == [b"a", b"b"]
    assert [item.source for item in open_items(tmp_path / "set.rec")] == [b"image..."]
    assert [item.source for item in open_items(tmp_path / "set.TAR")] == [b"in tar"]
    matched = list(open_items(f"{tmp_path}/*"))
    assert [item.source for item in matched] == [b"in tar", b"a", b"b", b"image...", tmp_path / "x.jpg"]
    assert len({item.name for item in matched}) == len(matched)


def test_trouble(photos: Path) -> None:
    with pytest.raises(DataError, match="none: no such file or folder; check the path"):
        open_items(photos / "none")
    with pytest.raises(DataError, match=r"suffix '\.md' is of no known kind"):
        open_items(photos / "notes.md")
    with pytest.raises(DataError, match=r"pattern .*: no image in it"):
        list(open_items(f"{photos}/*.gif"))
    with pytest.raises(DataError, match=r"folder .*empty: no image in it"):
        list(open_items(photos / "empty"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_folder_that_cannot_be_listed(photos: Path) -> None:
    (photos / "ann").chmod(0)
    with pytest.raises(DataError, match=r"ann: Permission denied; make it readable"):
        list(open_items(photos))
