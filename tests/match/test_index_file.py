"""A saved index: what comes back, what is erased for good, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from probface.errors import DataError, InvalidValue, StorageError
from probface.match import index_file
from probface.match.exact import SearchIndex
from probface.match.native import paths
from probface.match.synthetic import synthetic_faces
from probface.types import Embeddings

PATHS = [path.name for path in paths()]


@pytest.fixture
def faces(bench: SimpleNamespace) -> Embeddings:
    return bench.faces(700, 20, 0)


@pytest.fixture
def saved(faces: Embeddings, tmp_path: Path) -> Path:
    SearchIndex(faces, prefilter="int8").save(
        tmp_path / "index", meta={"people": 3}, extra={"person": np.arange(700, dtype=np.int64) * 7}
    )
    return tmp_path / "index"


def same(found: SearchIndex, made: SearchIndex, probes: Embeddings, **how: object) -> None:
    ours, theirs = found.search(probes, 9, **how), made.search(probes, 9, **how)
    np.testing.assert_array_equal(ours.scores, theirs.scores)
    np.testing.assert_array_equal(ours.indices, theirs.indices)


def test_what_is_saved_comes_back(faces: Embeddings, saved: Path, bench: SimpleNamespace) -> None:
    made, probes = SearchIndex(faces), bench.near(faces, np.arange(40), 0.5, 1)
    for path in PATHS:
        opened = SearchIndex.open(saved, path=path)
        assert (len(opened), opened.meta, list(opened.extra)) == (700, {"people": 3}, ["person"])
        assert (opened.extra["person"] == np.arange(700) * 7).all()
        np.testing.assert_array_equal(opened.references.mu, faces.mu)
        for metric in ("fastmls", "mls", "cosine"):
            for prefilter in ("int8", "float32"):
                same(opened, made, probes, metric=metric, prefilter=prefilter)
    assert opened.search(probes, 1).report.prefilter == "int8"  # as the index was built


@pytest.mark.parametrize("count", [1, 64, 65])
def test_small_ones_and_those_without_codes(bench: SimpleNamespace, tmp_path: Path, count: int) -> None:
    for width in (1, 6):
        faces = bench.faces(count, 6, 2, width=width)
        made = SearchIndex(faces, prefilter="float32")
        made.save(tmp_path / "index")
        opened = SearchIndex.open(tmp_path / "index")
        assert (opened.meta, opened.extra) == ({}, {})
        same(opened, made, faces, metric="mls")
        with pytest.raises(InvalidValue, match="built without it"):
            opened.search(faces, 1, metric="cosine", prefilter="int8")


def test_the_file_is_not_read_to_be_opened(saved: Path) -> None:
    opened = SearchIndex.open(saved)
    assert isinstance(opened.references.mu.base, np.memmap)
    assert not opened.references.mu.flags.writeable
    assert isinstance(opened._layout.codes.base, np.memmap)


@pytest.mark.parametrize("metric", ["fastmls", "mls", "cosine"])
@pytest.mark.parametrize("path", PATHS)
def test_excluded_rows_are_found_no_more(bench: SimpleNamespace, path: str, metric: str) -> None:
    widths = (1, 8) if metric == "mls" else (1,)
    for width in widths:
        faces = bench.faces(200, 8, 3, width=width)
        gone = np.arange(0, 200, 3)
        left = np.setdiff1d(np.arange(200), gone)
        for prefilter in ("int8", "float32"):
            index = SearchIndex(faces, path=path, prefilter=prefilter)
            index.exclude(gone)
            index.exclude(gone[:5])
            for probes in (faces[:30], faces[:1]):
                for k in (1, 10):
                    found = index.search(probes, k, metric=metric)
                    expected = SearchIndex(faces[left]).search(probes, k, metric=metric)
                    np.testing.assert_array_equal(found.scores, expected.scores)
                    np.testing.assert_array_equal(found.indices, left[expected.indices])
                found = index.search(probes, 200, metric=metric)
                assert (found.indices[:, len(left) :] == -1).all()
                assert np.isneginf(found.scores[:, len(left) :]).all()
                assert (np.sort(found.indices[:, : len(left)], axis=1) == left).all()


def test_all_excluded(bench: SimpleNamespace) -> None:
    for width, metric in ((1, "fastmls"), (1, "cosine"), (6, "mls")):
        faces = bench.faces(70, 6, 4, width=width)
        for path in PATHS:
            index = SearchIndex(faces, path=path)
            index.exclude(np.arange(70))
            found = index.search(faces[:3], 2, metric=metric)
            assert (found.indices == -1).all()
            assert np.isneginf(found.scores).all()


def test_exclusion_in_memory_leaves_the_file_and_can_be_saved(saved: Path, faces: Embeddings, tmp_path: Path) -> None:
    before = saved.read_bytes()
    opened = SearchIndex.open(saved)
    opened.exclude(np.array([5]))
    assert saved.read_bytes() == before
    assert 5 in SearchIndex.open(saved).search(faces[5:6], 1, metric="cosine").indices
    opened.save(tmp_path / "again")
    assert 5 not in SearchIndex.open(tmp_path / "again").search(faces[5:6], 700).indices


@pytest.mark.parametrize("width", [1, 20])
def test_erased_rows_leave_no_bytes(bench: SimpleNamespace, tmp_path: Path, width: int) -> None:
    faces = bench.faces(700, 20, 5, width=width)
    file = tmp_path / "index"
    made = SearchIndex(faces, prefilter="int8")
    marks = np.arange(700, dtype=np.int64) + 0x1122334455660000
    made.save(file, extra={"person": marks})
    gone = np.array([3, 64, 699, 350])
    position = np.flatnonzero(np.isin(made._layout.order, gone))
    codes = made._layout.codes[position // 64, :, position % 64]  # (4, 5, 4): four bytes in each of five places
    before = file.read_bytes()
    assert all(faces.mu[row].tobytes() in before and marks[row].tobytes() in before for row in gone)

    index_file.erase_rows(file, gone, extra={"person": -1})
    after = file.read_bytes()
    assert len(after) == len(before)
    arrays = index_file.read(file)[0]
    stored = arrays["codes"]
    for row in gone:
        mu = faces.mu[row].tobytes()
        assert not any(mu[at : at + 8] in after for at in range(0, len(mu) - 8, 4))
        assert marks[row].tobytes() not in after
        if width > 1:
            assert faces.sigma_sq[row].tobytes() not in after
    for name in ("sigma_sq", "variances", "bucket_low", "bucket_high"):
        assert not np.isin(arrays[name], faces.sigma_sq[gone]).any()
    assert (stored[position // 64, :, position % 64] == 128).all()
    assert not any((stored.transpose(0, 2, 1, 3) == code).all(axis=(2, 3)).any() for code in codes)

    left = np.setdiff1d(np.arange(700), gone)
    opened = SearchIndex.open(file)
    assert (opened.extra["person"][gone] == -1).all()
    assert (opened.extra["person"][left] == marks[left]).all()
    metric = "mls" if width > 1 else "fastmls"
    for path in PATHS:
        found = opened.search(faces[:40], 10, metric=metric, path=path)
        expected = SearchIndex(faces[left]).search(faces[:40], 10, metric=metric)
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.indices, left[expected.indices])


@pytest.mark.parametrize("count", [1, 64, 200])
def test_a_file_erased_whole_knows_nothing(bench: SimpleNamespace, tmp_path: Path, count: int) -> None:
    faces = bench.faces(count, 20, 8)
    SearchIndex(faces, prefilter="int8").save(tmp_path / "index")
    index_file.erase_rows(tmp_path / "index", np.arange(count))
    arrays = index_file.read(tmp_path / "index")[0]
    constant = {"order": -1, "codes": 128, "mu": 0}
    for name, values in arrays.items():
        if name != "bucket_first":
            assert (values == constant.get(name, 1)).all(), name
    for path in PATHS:
        assert (SearchIndex.open(tmp_path / "index", path=path).search(faces[:2], 3).indices == -1).all()


def test_an_index_without_codes_is_erased_too(bench: SimpleNamespace, tmp_path: Path) -> None:
    faces = bench.faces(90, 20, 6)
    SearchIndex(faces, prefilter="float32").save(tmp_path / "index")
    index_file.erase_rows(tmp_path / "index", np.array([7]))
    assert faces.mu[7].tobytes() not in (tmp_path / "index").read_bytes()
    assert 7 not in SearchIndex.open(tmp_path / "index").search(faces[7:8], 90).indices


def _empty(_: bytes) -> bytes:
    return b""


def _cut(data: bytes) -> bytes:
    return data[:-5000]


def _in_the_header(data: bytes) -> bytes:
    return data[:100]


def _other_magic(data: bytes) -> bytes:
    return b"RIFFWAVE" + data[8:]


def _newer(data: bytes) -> bytes:
    return data[:7] + b"2" + data[8:]


def _garbage_header(data: bytes) -> bytes:
    return data[:16] + b"\xff{" * 500 + data[1016:]


def _endless_header(data: bytes) -> bytes:
    return data[:8] + b"\xff" * 8 + data[16:]


def _header(data: bytes, change: object) -> bytes:
    length = int.from_bytes(data[8:16], "little")
    header = json.loads(data[16 : 16 + length])
    return data[:16] + json.dumps(change(header)).encode().ljust(length)[:length] + data[16 + length :]  # type: ignore[operator]


def _without(name: str) -> object:
    def remove(header: dict) -> dict:
        return {**header, "arrays": {key: value for key, value in header["arrays"].items() if key != name}}

    return lambda data: _header(data, remove)


def _formed(name: str, dtype: str, *shape: int) -> object:
    """One array is said to be of another form, though within the file."""

    def change(header: dict) -> dict:
        header["arrays"][name][:2] = [dtype, list(shape)]
        return header

    return lambda data: _header(data, change)


def _shifted(name: str, by: int) -> object:
    def change(header: dict) -> dict:
        header["arrays"][name][2] += by
        return header

    return lambda data: _header(data, change)


DAMAGE = {
    "cut off": _cut,
    "cut off in the header": _in_the_header,
    "empty": _empty,
    "another magic": _other_magic,
    "a newer version": _newer,
    "no header": _garbage_header,
    "a header without an end": _endless_header,
    "a header that is a list": lambda data: _header(data, lambda _: [1]),
    "no arrays": lambda data: _header(data, lambda _: {"meta": {}}),
    "an empty list of arrays": lambda data: _header(data, lambda header: {**header, "arrays": {}}),
    "arrays that are none": lambda data: _header(data, lambda header: {**header, "arrays": {"mu": [1, 2]}}),
    "another type": lambda data: _header(data, lambda header: {**header, "arrays": {"mu": ["face", [1], 0]}}),
    "without codes": _without("codes"),
    "without vectors": _without("mu"),
    "fewer vectors": _formed("mu", "<f4", 600, 20),
    "shorter vectors": _formed("mu", "<f4", 700, 16),
    "vectors in a row": _formed("mu", "<f4", 14000),
    "vectors of another type": _formed("mu", "<i4", 700, 20),
    "fewer variances": _formed("variances", "<f4", 600, 1),
    "a shorter order": _formed("order", "<i8", 600),
    "an order of another type": _formed("order", "<f8", 700),
    "fewer codes": _formed("codes", "|u1", 10, 5, 64, 4),
    "codes in a row": _formed("codes", "|u1", 14080),
    "fewer buckets": _formed("bucket_low", "<f4", 3),
    "buckets from elsewhere": _shifted("bucket_first", -4096),
    "no buckets": _formed("bucket_first", "<i8", 0),
    "fewer tiles": _formed("tile_scale", "<f4", 3),
    "a negative place": _shifted("mu", -(1 << 40)),
    "a crooked place": _shifted("mu", -2),
    "a negative size": _formed("mu", "<f4", -700, 20),
    "without meta": lambda data: _header(data, lambda header: {k: v for k, v in header.items() if k != "meta"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_in_one_line(saved: Path, damage: str) -> None:
    saved.write_bytes(DAMAGE[damage](saved.read_bytes()))
    with pytest.raises(DataError, match=r"index.*delete it, so that it is made anew") as caught:
        SearchIndex.open(saved)
    assert "\n" not in str(caught.value)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match="not readable as a search index"):
            SearchIndex.open(path)
        with pytest.raises(DataError, match="not readable as a search index"):
            index_file.erase_rows(path, np.array([0]))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        index_file.write(tmp_path / "file" / "below", {"a": np.zeros(3)}, {})


def test_a_failed_save_leaves_the_old_one(saved: Path, bench: SimpleNamespace) -> None:
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        SearchIndex(bench.faces(3, 3, 0)).save(saved, meta={"not": {1, 2}})
    assert saved.read_bytes() == before
    assert [entry.name for entry in saved.parent.iterdir()] == ["index"]


def test_threads_share_one_index(saved: Path, faces: Embeddings, bench: SimpleNamespace) -> None:
    opened, probes = SearchIndex.open(saved), bench.near(faces, np.arange(50), 0.4, 7)
    expected = opened.search(probes, 10)
    with ThreadPoolExecutor(8) as pool:
        for path in PATHS:
            for found in pool.map(lambda _, path=path: opened.search(probes, 10, path=path), range(16)):
                np.testing.assert_array_equal(found.scores, expected.scores)
                np.testing.assert_array_equal(found.indices, expected.indices)


READER = """
import sys
import numpy as np
from probface.match.exact import SearchIndex
for _ in range(20):
    index = SearchIndex.open(sys.argv[1])
    found = index.search(index.references[:20], 1, metric="cosine")
    assert (found.indices[:, 0] == np.arange(20)).all() and len(index) in (300, 700)
"""


def test_readers_while_it_is_replaced(saved: Path, faces: Embeddings) -> None:
    reader = subprocess.Popen([sys.executable, "-c", READER, str(saved)], stderr=subprocess.PIPE, text=True)
    for _ in range(500):
        for count in (300, 700):
            SearchIndex(faces[:count]).save(saved)
        if reader.poll() is not None:
            break
    _, complaint = reader.communicate(timeout=60)
    assert (reader.returncode, complaint) == (0, "")


@pytest.mark.parametrize("row", [-2, 200, 1 << 40])
def test_rows_that_are_not_there(tmp_path: Path, row: int) -> None:
    path = tmp_path / "faces.index"
    _, references = synthetic_faces(2, 200, 8)
    index = SearchIndex(references)
    index._layout.order[7] = row
    index.save(path)
    with pytest.raises(DataError, match="whose arrays do not fit together"):
        SearchIndex.open(path)
