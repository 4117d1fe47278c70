import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest
import webdataset

from probface.errors import DataError
from probface.readers.shards import read_shard


def _write(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_samples(tmp_path: Path) -> None:
    files = {
        "a/000.cls": b"7\n",
        "a/000.jpg": b"zero",
        "a/001.png": b"one",
        "a/001.json": b'{"label": 8, "other": []}',
        "a/002.left.jpg": b"two",
        "a/002.right.jpg": b"three",
        "a/003.txt": b"no image",
        "b/003.webp": b"four",
        "b/004.json": b"{}",
        "b/004.JPEG": b"five",
    }
    path = _write(tmp_path / "shard.tar", files)
    items = list(read_shard(path))
    assert [item.source for item in items] == [b"zero", b"one", b"two", b"three", b"four", b"five"]
    assert [item.label for item in items] == ["7", "8", None, None, None, None]
    assert items[0].name == f"{path.as_posix()}/a/000.jpg"
    assert len({item.name for item in items}) == len(items)


def test_reads_only_what_is_asked(tmp_path: Path) -> None:
    path = _write(tmp_path / "shard.tar", {f"{i}.jpg": bytes(1000) for i in range(100)})
    items = read_shard(path)
    assert next(items).source == bytes(1000)
    assert len(list(items)) == 99


def test_memory_does_not_grow_with_the_members(tmp_path: Path) -> None:
    peaks = []
    for count in (1000, 4000):
        path = _write(tmp_path / f"{count}.tar", {f"{i:05d}.jpg": b"" for i in range(count)})
        tracemalloc.start()
        assert sum(1 for _ in read_shard(path)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A kept member takes some 450 bytes; what is freed only by the garbage collector now and then is much less.
    assert peaks[1] - peaks[0] < 100 * 3000


def test_damage_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = _write(tmp_path / "shard.tar", {f"{i}.jpg": b"image" for i in range(4)})
    data = bytearray(path.read_bytes())
    data[2 * 1024 + 10] ^= 0xFF  # within the third member's header
    path.write_bytes(data)
    items = read_shard(path)
    assert next(items).source == b"image"
    with pytest.raises(DataError, match="no member begins at byte 2048"):
        next(items)


@pytest.mark.parametrize(("name", "data"), [("0.json", b"{"), ("0.json", b"[1]"), ("0.cls", b"\xff")])
def test_bad_label(tmp_path: Path, name: str, data: bytes) -> None:
    path = _write(tmp_path / "shard.tar", {"0.jpg": b"", name: data})
    with pytest.raises(DataError, match=rf"shard\.tar, sample {name}: not the text or JSON"):
        list(read_shard(path))


def test_compressed_or_broken(tmp_path: Path) -> None:
    path = _write(tmp_path / "shard.tar", {"0.jpg": b"zero"}, "w:gz")
    with pytest.raises(DataError, match="not a complete plain tar file"):
        list(read_shard(path))
    _write(path, {"0.jpg": bytes(5000), "1.jpg": bytes(5000)})
    path.write_bytes(path.read_bytes()[:7000])
    with pytest.raises(DataError, match="not a complete plain tar file"):
        list(read_shard(path))


def test_a_shard_that_webdataset_wrote(tmp_path: Path) -> None:
    path = tmp_path / "faces-000.tar"
    with webdataset.TarWriter(str(path)) as sink:
        for number in range(3):
            sink.write({"__key__": f"{number:06d}", "jpg": b"image %d" % number, "cls": 40 + number})
    assert [(item.source, item.label) for item in read_shard(path)] == [
        (b"image 0", "40"),
        (b"image 1", "41"),
        (b"image 2", "42"),
    ]
