"""Ready embeddings into a gallery: whose they are, what made them, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from photos import portrait, save
from probface.cli.demo import PORTRAITS, _carried
from probface.errors import DataError, InsufficientData, InvalidValue, ModelError
from probface.gallery.exchange import export_gallery
from probface.gallery.exchange_reading import read_table
from probface.gallery.gallery import Gallery
from probface.gallery.records import GallerySettings, ModelBinding, NewReferences
from probface.models.registry import resolve_model
from probface.pipeline.embed import embed
from probface.pipeline.embedding_file import read_embeddings
from probface.pipeline.enroll import enroll
from probface.pipeline.gallery_import import declared_model, import_gallery
from probface.pipeline.gallery_model import model_binding
from probface.pipeline.identify import identify
from probface.types import Embeddings

SFACE = model_binding(resolve_model("sface"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each person."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(2):
        save(folder / "Eileen Collins" / f"{number}.png", portrait(300 + 40 * number, noise=4.0 * number, seed=number))
    (folder / "Grace Hopper").mkdir()
    (folder / "Grace Hopper" / "0.jpg").write_bytes(_carried(*PORTRAITS["hopper.jpg"]))
    return folder


@pytest.fixture(scope="module")
def embedded(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("embedded")
    return {suffix: embed(photos, folder / f"e.{suffix}").out for suffix in ("npz", "parquet")}


def old_gallery(path: Path, people: int = 1200, dim: int = 512) -> Path:
    """What another system might keep: vectors of any length, a few people twice."""
    rng = np.random.default_rng(1)
    names = np.array([f"id{number:05d}" for number in range(people)] + ["id00000", "id00001"])
    np.savez(path, names=names, embeddings=rng.normal(size=(people + 2, dim)).astype(np.float32))
    return path


def test_another_systems_gallery_moves_over(tmp_path: Path) -> None:
    where = tmp_path / "faces.db"
    file = old_gallery(tmp_path / "old.npz")
    result = import_gallery(file, where, sigma_sq=0.3, model_name="w600k_r50")
    assert (result.created, result.references, result.identities) == (True, 1202, 1200)
    assert (result.model, result.normalised) == ("w600k_r50", 1202)
    table = read_table(file)
    with Gallery.open(where) as gallery:
        model = gallery.settings.model
        assert model == declared_model("w600k_r50", 512, 1)
        assert model.contract is None
        stored = Embeddings.concatenate(Embeddings(block.mu, block.sigma_sq) for block in gallery.store.scan())
        assert sorted(row.tobytes() for row in stored.mu) == sorted(row.tobytes() for row in table.mu)
        assert set(stored.sigma_sq.ravel().tolist()) == {float(np.float32(0.3))}
        known = Embeddings(table.mu[7:8], np.full((1, 1), 0.3, np.float32))
        found = gallery.identify(known, model=model)
        assert found.name == "id00007"
        assert "measured on this gallery" in found.basis
        turned = np.roll(known.mu, 1, axis=1)
        assert gallery.identify(Embeddings(turned, known.sigma_sq), model=model).name is None
        with pytest.raises(InsufficientData, match="10000 identities"):
            gallery.identify(known, model=model, fpir=0.001)
    assert import_gallery(file, where, sigma_sq=0.3, model_name="w600k_r50").created is False
    with pytest.raises(InvalidValue, match=r"model 'r100' \(.*faces.db holds embeddings of model 'w600k_r50'"):
        import_gallery(file, where, sigma_sq=0.3, model_name="r100")


def test_vectors_of_a_model_at_hand(photos: Path, embedded: dict[str, Path], tmp_path: Path) -> None:
    rows = read_embeddings(embedded["npz"]).rows
    names = np.array([Path(path).parent.name for path in rows.path])
    np.savez(tmp_path / "old.npz", label=names, features=rows.mu * 3)
    where = tmp_path / "g.db"
    import_gallery(tmp_path / "old.npz", where, sigma_sq=0.3, model="sface", templates="all")
    with Gallery.open(where) as gallery:
        assert gallery.settings == GallerySettings(SFACE, "all")
    assert identify(photos / "Grace Hopper" / "0.jpg", where).answer.name == "Grace Hopper"
    np.savez(tmp_path / "whole.npz", name=names, mu=rows.mu, sigma_sq=rows.sigma_sq[:, 0], quality=rows.quality)
    import_gallery(tmp_path / "whole.npz", tmp_path / "h.db", model="sface")
    with Gallery.open(tmp_path / "h.db") as gallery:
        (block,) = gallery.store.scan()
        assert block.sigma_sq.tobytes() == rows.sigma_sq.tobytes()
        assert gallery.store.references("Grace Hopper")[0].quality == rows.quality[-1]
    old_gallery(tmp_path / "wide.npz", 2)
    with pytest.raises(InvalidValue, match=r"wide.npz: mu of D = 512, model 'sface' gives 128; name the model that"):
        import_gallery(tmp_path / "wide.npz", tmp_path / "i.db", sigma_sq=0.3, model="sface")
    assert not (tmp_path / "i.db").exists()


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_file_of_embeddings(embedded: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    result = import_gallery(embedded[suffix], tmp_path / "g.db")
    assert (result.references, result.identities, result.normalised) == (3, 2, 0)
    rows = read_embeddings(embedded["npz"]).rows
    with Gallery.open(tmp_path / "g.db") as gallery:
        assert gallery.settings == GallerySettings(SFACE)
        (block,) = gallery.store.scan()
        assert block.mu.tobytes() == rows.mu.tobytes()
        people = [one.name for one in gallery.store.identities()]
        assert people == ["Eileen Collins", "Grace Hopper"]
        references = [one for name in people for one in gallery.store.references(name)]
        assert [one.source for one in references] == list(rows.path)
        assert [one.quality for one in references] == rows.quality.tolist()


def test_names_from_a_list(embedded: dict[str, Path], tmp_path: Path) -> None:
    paths = read_embeddings(embedded["npz"]).rows.path
    listed = tmp_path / "names.csv"
    lines = ["path,name", *(f'"{path}","Lee, {number}"' for number, path in enumerate(paths)), "", "gone.png,Nobody"]
    listed.write_text("\r\n".join(lines), encoding="utf-8-sig")
    assert import_gallery(embedded["npz"], tmp_path / "g.db", names=listed).identities == 3
    with Gallery.open(tmp_path / "g.db") as gallery:
        assert [one.name for one in gallery.store.identities()] == ["Lee, 0", "Lee, 1", "Lee, 2"]
    for text, message in {
        "\n".join(lines[:2]): r"names.csv: no line for .*1.png \(2 in all\); add them",
        "a,b,c": "line 1 has 3 fields; must be path,name",
        "a,b\na,c": "line 2: a second name for a",
        "a, b": "names.csv: identity name ' b'",
        'a,"b': "cannot be read",
    }.items():
        listed.write_text(text)
        with pytest.raises(DataError, match=message):
            import_gallery(embedded["npz"], tmp_path / "h.db", names=listed)
    listed.write_bytes(b"a,\xff")
    with pytest.raises(DataError, match="cannot be read"):
        import_gallery(embedded["npz"], tmp_path / "h.db", names=listed)
    with pytest.raises(DataError, match=r"gone.csv: cannot be read"):
        import_gallery(embedded["npz"], tmp_path / "h.db", names=tmp_path / "gone.csv")
    assert not (tmp_path / "h.db").exists()


@pytest.mark.parametrize("path", ["photo.png", "../photo.png", "set/train.rec/17", "a/b.bin/3", "/x.png"])
def test_images_that_are_in_no_persons_folder(embedded: dict[str, Path], tmp_path: Path, path: str) -> None:
    with np.load(embedded["npz"]) as arrays:
        changed = dict(arrays)
    changed["path"] = np.array([changed["path"][0], path, "a/b.png"])
    np.savez(tmp_path / "e.npz", **changed)
    with pytest.raises(DataError, match="in no folder named after a person; give --names"):
        import_gallery(tmp_path / "e.npz", tmp_path / "g.db")


def renamed(file: Path, out: Path, **changes: object) -> Path:
    """The same embeddings with another contract."""
    with np.load(file) as arrays:
        changed = dict(arrays)
    contract = replace(read_embeddings(file).contract, **changes)  # type: ignore[arg-type]
    np.savez(out, **{**changed, "contract": np.array(contract.to_json())})
    return out


def test_embeddings_of_a_model_that_is_not_the_one(embedded: dict[str, Path], tmp_path: Path) -> None:
    unknown = renamed(embedded["npz"], tmp_path / "u.npz", name="mine")
    with pytest.raises(ModelError, match=r"u.npz: of model 'mine', which is not known by name; give its file"):
        import_gallery(unknown, tmp_path / "g.db")
    differs = renamed(embedded["npz"], tmp_path / "d.npz", trained_on="other people")
    with pytest.raises(InvalidValue, match=r"d.npz: of model 'sface', whose contract is not that of 'sface'"):
        import_gallery(differs, tmp_path / "g.db")
    with pytest.raises(InvalidValue, match=r"--model-name x: .* says itself which model made it; leave it out"):
        import_gallery(embedded["npz"], tmp_path / "g.db", model_name="x")
    mine = ModelBinding("mine", "d" * 64, 128, 1, replace(read_table(unknown).contract))  # type: ignore[type-var]
    with Gallery.create(tmp_path / "g.db", GallerySettings(mine)):
        pass
    assert import_gallery(unknown, tmp_path / "g.db").references == 3  # the gallery knows the model
    with pytest.raises(InvalidValue, match="holds embeddings of model 'mine'"):
        import_gallery(embedded["npz"], tmp_path / "g.db")


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_an_export_makes_the_same_gallery(photos: Path, tmp_path: Path, suffix: str) -> None:
    first, second, out = tmp_path / "a.db", tmp_path / "b.db", tmp_path / f"x.{suffix}"
    for person in ("Eileen Collins", "Grace Hopper"):
        images = sorted((photos / person).iterdir())
        enroll(person, images, first, templates="all", estimator="minimum", keep_images=True)
    with Gallery.open(first) as gallery:
        assert export_gallery(gallery.store, out) == 3
        result = import_gallery(out, second)
        assert (result.created, result.references, result.model) == (True, 3, "sface")
        with Gallery.open(second) as other:
            assert other.settings == gallery.settings
            for ours, theirs in zip(gallery.store.scan(), other.store.scan(), strict=True):
                assert ours.mu.tobytes() == theirs.mu.tobytes()
                assert ours.sigma_sq.tobytes() == theirs.sigma_sq.tobytes()
                assert ours.identities.tolist() == theirs.identities.tolist()
            for person in ("Eileen Collins", "Grace Hopper"):
                one, two = gallery.store.references(person), other.store.references(person)
                assert [(r.source, r.source_digest, r.quality, r.enrolled) for r in one] == [
                    (r.source, r.source_digest, r.quality, r.enrolled) for r in two
                ]
            assert [known.enrolled for known in gallery.store.identities()] == [
                known.enrolled for known in other.store.identities()
            ]
            assert other.verify() == ()
    third = tmp_path / "c.db"
    import_gallery(out, third, templates="fused", model="sface")
    with Gallery.open(third) as gallery:
        assert (gallery.settings.templates, gallery.settings.estimator) == ("fused", "minimum")
    with Gallery.create(tmp_path / "d.db", GallerySettings(declared_model("r50", 128, 1))) as gallery:
        with pytest.raises(InvalidValue, match="holds embeddings of model 'r50'"):
            import_gallery(out, gallery)
        assert gallery.counts().references == 0


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({}, {}, "x.npz: does not say which model made it; give --model MODEL if it is at hand, or else --model-name"),
        ({}, {"model_name": "r50"}, "x.npz: it has no variances; declare one for all rows: --sigma-sq 0.3"),
        ({}, {"model_name": "r50", "sigma_sq": 0.0}, "--sigma-sq 0: must be above 0 and finite"),
        ({}, {"model_name": "r50", "sigma_sq": -1.0}, "--sigma-sq -1: must be above 0"),
        ({}, {"model_name": "r50", "sigma_sq": float("nan")}, "--sigma-sq nan: must be above 0"),
        ({}, {"model_name": "r50", "sigma_sq": 1e-60}, "--sigma-sq 1e-60: must be above 0"),
        ({}, {"model_name": "r50", "sigma_sq": 1e60}, "--sigma-sq 1e[+]60: must be above 0 and finite"),
        ({}, {"model_name": "r50", "model": "sface", "sigma_sq": 1.0}, "give one of them"),
        ({}, {"model_name": "r 50\n", "sigma_sq": 1.0}, "name"),
        ({"sigma_sq": np.ones(3)}, {"model_name": "r50", "sigma_sq": 1.0}, "has variances of its own; leave it out"),
        ({"sigma_sq": np.array([1, 0.0, 1])}, {"model_name": "r50"}, "x.npz: sigma_sq row 1 is"),
        ({"sigma_sq": np.array([1, np.nan, 1])}, {"model_name": "r50"}, "x.npz: sigma_sq row 1 is"),
        ({"sigma_sq": np.array([1, 1, 1e60])}, {"model_name": "r50"}, "x.npz: sigma_sq row 2 is"),
        ({"quality": np.array([1, 101, 3])}, {"model_name": "r50", "sigma_sq": 1.0}, "quality of row 1 is 101"),
        ({"name": None}, {"model_name": "r50", "sigma_sq": 1.0}, "no names in it; they must be an array named name"),
        ({}, {"model_name": "r50", "sigma_sq": 1.0, "names": "x.csv"}, "has names of its own; leave it out"),
    ],
)
def test_what_is_refused(tmp_path: Path, arrays: dict[str, object], options: dict[str, object], message: str) -> None:
    whole = {"mu": np.eye(3), "name": np.array(["a", "b", "c"]), **arrays}
    np.savez(tmp_path / "x.npz", **{name: array for name, array in whole.items() if array is not None})  # type: ignore[arg-type]
    with pytest.raises((DataError, InvalidValue), match=message) as raised:
        import_gallery(tmp_path / "x.npz", tmp_path / "g.db", **options)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_an_import_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    model = declared_model("r50", 3, 1)
    with Gallery.create(tmp_path / "g.db", GallerySettings(model)) as gallery:
        gallery.enroll(
            NewReferences.unlabelled(("a",), Embeddings(np.eye(3, dtype=np.float32)[:1], np.ones((1, 1), np.float32))),
            model=model,
        )
        np.savez(tmp_path / "x.npz", mu=np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0]]), name=np.array(["b", "b", "c"]))
        with pytest.raises(InvalidValue, match="identity 'b': its references cancel out"):
            import_gallery(tmp_path / "x.npz", gallery, sigma_sq=1.0, model_name="r50")
        assert [one.name for one in gallery.store.identities()] == ["a"]


def forged(gallery: Path, out: Path, **changes: object) -> Path:
    """An export that says something else of its model."""
    with Gallery.open(gallery) as opened:
        export_gallery(opened.store, out)
    with np.load(out) as arrays:
        changed = dict(arrays)
    document = json.loads(str(changed["gallery"]))
    document["settings"]["model"] |= changes
    for threshold in document["settings"]["model"]["contract"]["thresholds"]:
        threshold["threshold"] = -1000.0
    np.savez(out, **{**changed, "gallery": np.array(json.dumps(document))})
    return out


def test_thresholds_are_those_of_the_model_that_is_here(embedded: dict[str, Path], tmp_path: Path) -> None:
    import_gallery(embedded["npz"], tmp_path / "g.db")
    for name in ("sface", "another name"):
        file = forged(tmp_path / "g.db", tmp_path / "x.npz", name=name)
        assert not import_gallery(file, tmp_path / f"{name}.db").unconfirmed
        with Gallery.open(tmp_path / f"{name}.db") as gallery:
            assert gallery.settings.model == SFACE
    for number, changes in enumerate(({"digest": "d" * 64}, {"digest": "d" * 64, "name": "mine"})):
        file = forged(tmp_path / "g.db", tmp_path / "x.npz", **changes)
        assert import_gallery(file, tmp_path / f"{number}.db").unconfirmed
        assert not import_gallery(file, tmp_path / f"{number}.db").unconfirmed  # what is there keeps its own
        with Gallery.open(tmp_path / f"{number}.db") as gallery:
            contract = gallery.settings.model.contract
            assert contract is not None
            assert {entry.threshold for entry in contract.thresholds} == {-1000.0}
