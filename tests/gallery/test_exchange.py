"""Files of a gallery: what goes out comes back bit for bit, and what is hostile ends in one line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store_checks import NARROW, WIDE, new, random_embeddings, whole

from probface.errors import DataError, InvalidValue, MissingExtra, StorageError
from probface.gallery import exchange
from probface.gallery.engines.sqlite import SqliteStore
from probface.gallery.exchange import export_gallery
from probface.gallery.exchange_reading import read_table
from probface.gallery.records import GallerySettings, NewReferences
from probface.pipeline.gallery_model import model_binding
from probface.pipeline.recogniser import Recogniser

NAMES = ("Ann", "Bo", "Ann", "Çelik Ö", "家", "Bo", "Ann")


@pytest.fixture(params=[NARROW, WIDE], ids=["one variance", "D variances"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SqliteStore:
    made = SqliteStore.create(tmp_path / "g.db", request.param)
    made.add(new(made, 1, *NAMES))
    made.add(NewReferences.unlabelled(("late", "Bo"), random_embeddings(2, 2, made.settings.model)))
    return made


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_round_trip_bit_for_bit(store: SqliteStore, tmp_path: Path, suffix: str) -> None:
    out, seen = tmp_path / "out" / f"x.{suffix}", []
    assert export_gallery(store, out, progress=lambda done, total: seen.append((done, total))) == 9
    assert seen == [(9, 9)]
    table = read_table(out)
    block = whole(store)
    assert table.settings == store.settings
    assert table.normalised == 0
    assert table.mu.tobytes() == block.mu.tobytes()
    assert table.sigma_sq is not None
    assert table.sigma_sq.tobytes() == block.sigma_sq.tobytes()
    names = store.names(block.identities.tolist())
    assert table.names == tuple(names[identity] for identity in block.identities.tolist())
    known = {reference.id: reference for name in set(NAMES) | {"late"} for reference in store.references(name)}
    ordered = [known[id_] for id_ in block.ids.tolist()]
    assert table.sources == tuple(reference.source for reference in ordered)
    assert table.source_digests == tuple(reference.source_digest for reference in ordered)
    assert table.quality is not None
    assert table.quality.tolist() == [reference.quality for reference in ordered]
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    if os.name == "posix":
        assert out.stat().st_mode & 0o777 == 0o600  # as the gallery's own file


def test_what_other_programs_read(store: SqliteStore, tmp_path: Path) -> None:
    export_gallery(store, tmp_path / "x.npz")
    export_gallery(store, tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == {*table.column_names, "gallery"}
        for name in table.column_names:
            theirs = table.column(name).to_pylist()
            ours = [moment.replace(tzinfo=UTC) for moment in arrays[name].tolist()] if name == "enrolled" else None
            assert (arrays[name].tolist() if ours is None else ours) == theirs
        assert abs(datetime.now(UTC) - table.column("enrolled").to_pylist()[0]) < timedelta(minutes=5)


def test_blocks_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore.create(tmp_path / "g.db", NARROW)
    store.add(new(store, 1, *(f"person {number:03d}" + "x" * number for number in range(100))))
    export_gallery(store, tmp_path / "one.npz")
    scan = SqliteStore.scan
    monkeypatch.setattr(SqliteStore, "scan", lambda self: scan(self, rows=7))
    export_gallery(store, tmp_path / "many.npz")
    export_gallery(store, tmp_path / "many.parquet")
    assert (tmp_path / "one.npz").read_bytes()[:1000] == (tmp_path / "many.npz").read_bytes()[:1000]
    one, many, columns = (read_table(tmp_path / name) for name in ("one.npz", "many.npz", "many.parquet"))
    assert one.names == many.names == columns.names
    assert one.mu.tobytes() == many.mu.tobytes() == columns.mu.tobytes()


def test_who_is_deleted_meanwhile_is_left_out(store: SqliteStore, tmp_path: Path) -> None:
    class Deleting:
        """Deletes somebody once the picture of the scan is taken."""

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        def scan(self) -> object:
            blocks = list(store.scan())
            store.delete(["Bo"])
            return iter(blocks)

    assert export_gallery(Deleting(), tmp_path / "x.npz") == 6  # type: ignore[arg-type]
    names = read_table(tmp_path / "x.npz").names
    assert names is not None
    assert "Bo" not in names


def test_an_export_that_fails_leaves_the_old_file_and_nothing_else(store: SqliteStore, tmp_path: Path) -> None:
    out = tmp_path / "out" / "x.npz"
    export_gallery(store, out)
    before = out.read_bytes()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for path in (out, out.with_suffix(".parquet")):
        with pytest.raises(KeyboardInterrupt):
            export_gallery(store, path, progress=stop)
    assert [path.name for path in out.parent.iterdir()] == ["x.npz"]
    assert out.read_bytes() == before
    with pytest.raises(StorageError, match="cannot be written"):
        export_gallery(store, out / "in a file.npz")
    with pytest.raises(InvalidValue, match=r"x.csv: must end in .npz or .parquet"):
        export_gallery(store, tmp_path / "x.csv")


def test_the_default_models_contract_survives(tmp_path: Path) -> None:
    settings = GallerySettings(model_binding(Recogniser()))
    store = SqliteStore.create(tmp_path / "g.db", settings)
    store.add(NewReferences.unlabelled(("A",), random_embeddings(1, 1, settings.model)))
    for name in ("x.npz", "x.parquet"):
        export_gallery(store, tmp_path / name)
        assert read_table(tmp_path / name).settings == settings


def test_a_path_that_is_no_text(tmp_path: Path) -> None:
    store = SqliteStore.create(tmp_path / "g.db", NARROW)
    path = os.fsdecode(b"/photos/k\xff.jpg")
    store.add(NewReferences(("A",), random_embeddings(1, 1, NARROW.model), np.array([5]), (path,), ("",)))
    export_gallery(store, tmp_path / "x.npz")
    export_gallery(store, tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.npz").sources == (path,)
    assert read_table(tmp_path / "x.parquet").sources == ("/photos/k\\udcff.jpg",)


def bare(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def rows(seed: int = 0, count: int = 4, dim: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8"])
@pytest.mark.parametrize("mu", ["mu", "embeddings", "embedding", "features"])
@pytest.mark.parametrize("name", ["name", "names", "labels", "label"])
def test_bare_vectors_are_scaled_to_unit_length(tmp_path: Path, mu: str, name: str, dtype: str) -> None:
    vectors = rows().astype(dtype)
    vectors[2] = np.eye(6)[3]
    table = read_table(bare(tmp_path / "x.npz", **{mu: vectors, name: np.array(["a", "b", "ç", "d"])}))
    wide = vectors.astype("f8")
    np.testing.assert_allclose(table.mu, wide / np.linalg.norm(wide, axis=1)[:, None], atol=1e-7)
    assert (table.normalised, table.mu.dtype, table.names) == (3, np.float32, ("a", "b", "ç", "d"))
    assert table.sigma_sq is table.quality is table.settings is table.contract is None


def test_vectors_longer_than_float32_can_be(tmp_path: Path) -> None:
    table = read_table(bare(tmp_path / "x.npz", mu=np.diag([1e100, 1e-100, 3.0]), name=np.arange(3)))
    assert table.mu.tolist() == np.eye(3).tolist()


def test_unit_rows_are_left_to_the_bit(tmp_path: Path) -> None:
    vectors = random_embeddings(3, 50, WIDE.model).mu
    table = read_table(bare(tmp_path / "x.npz", mu=vectors, name=np.arange(50)))
    assert table.mu.tobytes() == vectors.tobytes()
    assert table.names == tuple(map(str, range(50)))
    assert read_table(bare(tmp_path / "x.npz", mu=vectors, name=np.array([b"\xc3\xa7"] * 50))).names == ("ç",) * 50


def test_parquet_of_another_system(tmp_path: Path) -> None:
    vectors = rows().astype("f4")
    lists = {"embedding": [row.tolist() for row in vectors], "label": [1, 2, 3, 4], "other": ["x"] * 4}
    pq.write_table(pa.table(lists), tmp_path / "x.parquet")
    table = read_table(tmp_path / "x.parquet")
    npz = read_table(bare(tmp_path / "x.npz", mu=vectors, name=np.arange(1, 5)))
    assert table.names == npz.names == ("1", "2", "3", "4")
    np.testing.assert_allclose(table.mu, npz.mu, atol=1e-7)


GOOD = {"mu": np.eye(3, dtype=np.float32), "name": np.array(["a", "b", "c"])}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mu": None}, "no embeddings in it; they must be an array named mu or embeddings"),
        ({"mu": np.array([{}, {}, {}], object)}, "its array 'mu' cannot be read .*Object arrays cannot be loaded"),
        ({"name": np.array(["a", {}, "c"], object)}, "its array 'name' cannot be read .*save texts as str"),
        ({"mu": np.eye(3, dtype=np.int64)}, r"mu of shape \(3, 3\), int64: must be \(N, D\) of floating point"),
        ({"mu": np.ones(3)}, r"mu of shape \(3,\), float64: must be"),
        ({"mu": np.ones((0, 3))}, "0 rows; there must be one or more"),
        ({"mu": np.ones((3, 0))}, r"mu of shape \(3, 0\)"),
        ({"mu": np.diag([1.0, 0.0, 0.0])}, "row 1 of mu is zero, as 1 more, so it has no direction; leave it out"),
        ({"mu": np.diag([1.0, 1.0, np.nan])}, "row 2 of mu is not finite, so"),
        ({"mu": np.diag([np.inf, 1.0, 1.0])}, "row 0 of mu is not finite, so"),
        ({"name": np.array(["a", "b"])}, r"name of shape \(2,\), <U1: must be \(3,\) texts"),
        ({"name": np.ones(3)}, r"name of shape \(3,\), float64: must be \(3,\) texts"),
        ({"name": np.array(["a", "", "c"])}, "row 1: identity name ''"),
        ({"name": np.array(["a", "b\n", "c"])}, "row 1: identity name"),
        ({"name": np.array([b"a", b"\xff", b"c"])}, "name is not UTF-8"),
        ({"sigma_sq": np.ones((3, 2))}, r"sigma_sq of shape \(3, 2\), float64: must be \(3, 1\) or \(3, 3\)"),
        ({"quality": np.ones(3)}, r"quality of shape \(3,\), float64: must be \(3,\) whole numbers"),
        ({"gallery": np.array("{")}, "its gallery settings cannot be read"),
        ({"gallery": np.array('{"format": 9}')}, "not an export of format 1; use the ProbFace that wrote it"),
        ({"gallery": np.array('{"format": 1, "settings": {"model": 3}}')}, "its gallery settings cannot be read"),
        ({"contract": np.array("[1]")}, "model contract"),
    ],
)
def test_hostile_tables(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    arrays = {name: array for name, array in {**GOOD, **changed}.items() if array is not None}
    with pytest.raises(DataError, match=message) as raised:
        read_table(bare(tmp_path / "x.npz", **arrays))
    assert "\n" not in str(raised.value)


def test_hostile_files(tmp_path: Path) -> None:
    good = bare(tmp_path / "good.npz", **GOOD).read_bytes()
    (tmp_path / "one.npz").write_bytes(b"")
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    contents: dict[str, bytes] = {
        "empty.npz": b"",
        "text.npz": b"nothing",
        "cut.npz": good[:-40],
        "short.npz": good[: len(good) // 2],
        "empty.parquet": b"",
        "text.parquet": b"PAR1" * 40,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name in (*contents, "array.npz", "missing.npz"):
        with pytest.raises(DataError, match=name):
            read_table(tmp_path / name)


def test_a_header_that_claims_too_much(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("mu.npy", "w") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**13, 512)}
        np.lib.format.write_array_header_1_0(file, header)  # type: ignore[arg-type]
        file.write(b"\0" * 100)
    with pytest.raises(DataError, match=r"x.npz: its array 'mu' cannot be read"):
        read_table(path)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1.0], [1.0, 2.0]]), "lists of 2 lengths; all must be as long"),
        (pa.array([[1.0], None]), "has 1 nulls"),
        (pa.array([[1.0], [None]], pa.list_(pa.float32())), "has nulls in its lists"),
        (pa.array(["a", "b"]), "must be"),
    ],
)
def test_hostile_columns(tmp_path: Path, column: object, message: str) -> None:
    pq.write_table(pa.table({"mu": column, "name": ["a", "b"]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "x.parquet")


def test_what_is_no_pickle_cannot_run_code(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    np.savez(tmp_path / "x.npz", mu=GOOD["mu"], name=np.array([Bomb()] * 3, object))
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        read_table(tmp_path / "x.npz")
    assert not (tmp_path / "ran").exists()


def test_without_pyarrow(store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'probface\[parquet\]', or use .npz"):
        export_gallery(store, tmp_path / "x.parquet")
    assert json.loads(exchange.settings_text(store.settings))["format"] == exchange.FORMAT


def test_arrays_that_are_damaged_inside(tmp_path: Path) -> None:
    import zipfile

    good = bare(tmp_path / "good.npz", **GOOD)
    with zipfile.ZipFile(good) as archive:
        mu, name = archive.read("mu.npy"), archive.read("name.npy")
    head = mu.index(b"{")
    for what in (b"{'descr': (((", b"{'descr': $$$"):  # no Python that numpy could read
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("mu.npy", mu[:head] + what + mu[head + len(what) :])
            archive.writestr("name.npy", name)
        with pytest.raises(DataError, match=r"x.npz: its array 'mu' cannot be read"):
            read_table(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("mu.npy", mu)
        archive.writestr("name.npy", name)
    data = bytearray((tmp_path / "x.npz").read_bytes())
    start = data.index(b"mu.npy") + len("mu.npy") + 9  # behind the properties of the compression
    data[start : start + 20] = b"\xff" * 20
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"x.npz: its array 'mu' cannot be read"):
        read_table(tmp_path / "x.npz")


@pytest.mark.parametrize("digest", ["x", "\udcff" * 64, "g" * 64, "a" * 63])
def test_digests_are_digests(tmp_path: Path, digest: str) -> None:
    with pytest.raises(DataError, match=r"source_digest of row 1 is .*: must be empty, or a SHA-256 of 64"):
        read_table(bare(tmp_path / "x.npz", **GOOD, source_digest=np.array(["", digest, ""])))
    table = read_table(bare(tmp_path / "x.npz", **GOOD, source_digest=np.array(["", "A" * 64, "b" * 64])))
    assert table.source_digests == ("", "a" * 64, "b" * 64)


def test_an_export_says_which_model_in_earnest(store: SqliteStore, tmp_path: Path) -> None:
    document = json.loads(exchange.settings_text(store.settings))
    for change, message in (({"digest": "abc"}, "must be 64 hexadecimal"), ({"name": "a\x1b[2J"}, "cannot be read")):
        model = document["settings"]["model"] | change
        text = json.dumps(document | {"settings": document["settings"] | {"model": model}})
        with pytest.raises(DataError, match=message) as raised:
            read_table(bare(tmp_path / "x.npz", **GOOD, gallery=np.array(text)))
        assert "\x1b" not in str(raised.value)


def test_what_a_killed_export_left_is_removed(store: SqliteStore, tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    gone, out = int(ended.stdout), tmp_path / "out" / "x.npz"
    out.parent.mkdir()
    left = [out.parent / f".x.npz.{gone}.tmp", out.parent / f".x.npz.{gone}.tmp.abc" / "000000.npz"]
    others = [out.parent / name for name in (f".x.npz.{os.getppid()}.tmp", f".y.npz.{gone}.tmp", ".x.npz.q.tmp")]
    left[1].parent.mkdir()
    for path in (*left, *others):
        path.write_bytes(b"vectors")
    export_gallery(store, out)
    assert {path.name for path in out.parent.iterdir()} == {"x.npz", *(path.name for path in others)}
