"""The gallery against a dictionary searched by plain loops: whatever is enrolled, deleted and opened again."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import threading
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from gallery_model import DIM, ModelGallery, assert_answers, binding, faces, settings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from probface.contract import InputSpec, ModelContract, Threshold
from probface.errors import InsufficientData, InvalidValue, StorageError
from probface.gallery.engines.sqlite import SqliteStore
from probface.gallery.gallery import Gallery
from probface.gallery.records import Candidate, NewReferences, Templates
from probface.types import Embeddings, Metric

TEMPLATES: tuple[Templates, ...] = get_args(Templates)
NAMES = [f"person {number}" for number in range(8)]


def people(names: list[str], seed: int = 0, width: int = 1) -> NewReferences:
    return NewReferences.unlabelled(tuple(names), faces(seed, len(names), width))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enroll"), st.lists(st.sampled_from(NAMES), min_size=1, max_size=6), st.integers(0, 1)),
        st.tuples(st.just("delete"), st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), st.integers(0, 1)),
        st.tuples(st.just("reopen"), st.just([]), st.integers(0, 1)),
        st.tuples(st.just("search"), st.just([]), st.integers(0, 1)),
    ),
    min_size=2,
    max_size=12,
)


@pytest.mark.parametrize("templates", TEMPLATES)
@pytest.mark.parametrize(("width", "metric"), [(1, "fastmls"), (1, "cosine"), (DIM, "mls")])
@given(steps=STEPS, seed=st.integers(0, 99))
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_two_that_share_a_file_answer_like_a_dictionary(
    templates: Templates, width: int, metric: Metric, steps: list[tuple[str, list[str], int]], seed: int
) -> None:
    model, probes = ModelGallery(templates), faces(1000 + seed, 3, width)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faces.db"
        galleries = [Gallery.create(path, settings(templates, width)), Gallery.open(path)]
        try:
            for number, (what, names, which) in enumerate(steps):
                if what == "enroll":
                    new = people(names, 100 * seed + number, width)
                    galleries[which].enroll(new, model=binding(width))
                    model.enroll(new)
                elif what == "delete":
                    there = [name for name in dict.fromkeys(names) if name in model.people]
                    removed = galleries[which].delete(there)
                    assert removed == sum(len(model.people.pop(name)) for name in there)
                elif what == "reopen":
                    galleries[which].close()
                    galleries[which] = Gallery.open(path)
                else:
                    assert_answers(galleries[which], model, probes, 4, metric)
            for gallery in galleries:
                assert_answers(gallery, model, probes, 4, metric)
                assert dataclasses.astuple(gallery.counts()) == (
                    len(model.people),
                    sum(map(len, model.people.values())),
                )
                assert gallery.verify() == ()
        finally:
            for gallery in galleries:
                gallery.close()


@pytest.mark.parametrize("together", [True, False])
def test_a_person_of_many_references_hides_nobody(together: bool, tmp_path: Path) -> None:
    """With every reference searched, the best hundred rows are one person's."""
    probe, others = faces(1, 1), faces(2, 20)
    near = probe.mu + np.random.default_rng(3).normal(scale=0.01, size=(150, DIM)).astype(np.float32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    model = ModelGallery("all")
    with Gallery.create(tmp_path / "faces.db", settings("all")) as gallery:
        for new in (
            NewReferences.unlabelled(("many",) * 150, Embeddings(near, np.full((150, 1), 0.1, np.float32))),
            NewReferences.unlabelled(tuple(f"other {row}" for row in range(20)), others),
        ):
            gallery.enroll(new, model=binding())
            model.enroll(new)
            if not together:  # in the main index one person, in the tail the others
                assert_answers(gallery, model, probe, 5, "fastmls")
        assert_answers(gallery, model, probe, 5, "fastmls")
        assert_answers(gallery, model, faces(4, 6), 50, "fastmls")


def test_another_model_is_refused_by_name(tmp_path: Path) -> None:
    other = binding(name="other")
    said = r"faces\.db: holds embeddings of model 'tiny' \(\w{12}\), these are of 'other' \(\w{12}\).*migrate"
    with Gallery.create(tmp_path / "faces.db", settings()) as gallery:
        with pytest.raises(InvalidValue, match=said):
            gallery.enroll(people(["Ada"]), model=other)
        with pytest.raises(InvalidValue, match=said):
            gallery.search(faces(0, 1), model=other)
        with pytest.raises(InvalidValue, match=said):
            gallery.identify(faces(0, 1), model=other)
        with pytest.raises(InvalidValue, match="D = 3, sigma_sq width 1: model 'tiny' gives 12 and 1"):
            gallery.search(faces(0, 1, dim=3), model=binding())
        assert gallery.counts().references == 0


def test_questions_that_cannot_be_answered(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "faces.db", settings()) as gallery:
        with pytest.raises(InvalidValue, match="top 0: must be 1 or more"):
            gallery.search(faces(0, 1), model=binding(), top=0)
        with pytest.raises(InvalidValue, match="metric 'l2'"):
            gallery.search(faces(0, 1), model=binding(), metric="l2")  # type: ignore[arg-type]
        with pytest.raises(InvalidValue, match="2 probes: identify takes one"):
            gallery.identify(faces(0, 2), model=binding())
        for fpir in (0.0, 1.0, -1.0, math.nan):
            with pytest.raises(InvalidValue, match="FPIR"):
                gallery.identify(faces(0, 1), model=binding(), fpir=fpir)
    with (
        Gallery.create(tmp_path / "wide.db", settings("fused", DIM)) as gallery,
        pytest.raises(InvalidValue, match="search with mls"),
    ):
        gallery.search(faces(0, 1, DIM), model=binding(DIM))


def test_an_empty_gallery_knows_nobody(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "faces.db", settings()) as gallery:
        assert gallery.search(faces(0, 2), model=binding()) == ((), ())
        found = gallery.identify(faces(0, 1), model=binding())
        assert (found.name, found.reason, found.candidates) == (None, "the gallery is empty", ())
        assert found.threshold == math.inf
        gallery.enroll(people(["Ada"]), model=binding())
        gallery.delete(["Ada"])
        assert gallery.identify(faces(0, 1), model=binding()).reason == "the gallery is empty"


def test_the_decision(tmp_path: Path) -> None:
    threshold = Threshold("fastmls", 1e-3, -1.0, 2e-3, 100_000, 100, "pairs of somebody")
    contract = ModelContract("tiny", DIM, 1, InputSpec(), "0" * 64, thresholds=(threshold,))
    model = dataclasses.replace(binding(), contract=contract)
    with Gallery.create(tmp_path / "faces.db", dataclasses.replace(settings(), model=model)) as gallery:
        gallery.enroll(people(["Ada", "Bob", "Eve"], 5), model=model)
        ada = faces(5, 3)[:1]
        found = gallery.identify(ada, model=model, fpir=0.01, top=2)
        assert found.name == "Ada"
        assert found.reason.startswith("'Ada' scores ")
        assert found.reason.endswith(", above the threshold -1")
        assert found.candidates == gallery.search(ada, model=model, top=2)[0]
        assert (found.metric, found.threshold, found.fpir) == ("fastmls", -1.0, 0.01)
        assert "3 references times the false-match rate 0.001 of model 'tiny'" in found.basis
        assert "100 of 100000 impostor pairs of pairs of somebody" in found.basis
        opposite = gallery.identify(Embeddings(-ada.mu, ada.sigma_sq), model=model)
        assert opposite.name is None
        best = opposite.candidates[0].name
        assert opposite.reason.startswith(f"best candidate: {best!r} scores -")
        assert opposite.reason.endswith(", not above the threshold -1")
        assert len(opposite.candidates) == 3
        with pytest.raises(InsufficientData, match=r"FPIR 0.001: .* at least 10000 identities .* has 3; ask for 0.003"):
            gallery.identify(ada, model=model, fpir=0.001)


def test_a_score_at_the_threshold_is_not_above_it(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "faces.db", settings()) as gallery:
        gallery.enroll(people(["Ada"]), model=binding())
        score = gallery.search(faces(9, 1), model=binding())[0][0].score
    threshold = Threshold("fastmls", 1e-3, score, 2e-3, 100_000, 100, "pairs")
    contract = ModelContract("tiny", DIM, 1, InputSpec(), "0" * 64, thresholds=(threshold,))
    model = dataclasses.replace(binding(), contract=contract)
    with Gallery.create(tmp_path / "more.db", dataclasses.replace(settings(), model=model)) as gallery:
        gallery.enroll(people(["Ada"]), model=model)
        assert gallery.identify(faces(9, 1), model=model).name is None


def test_references_that_cancel_out_are_refused_before_they_are_kept(tmp_path: Path) -> None:
    one = faces(0, 1)
    both = Embeddings(np.concatenate([one.mu, -one.mu]), np.full((2, 1), 0.5, np.float32))
    with Gallery.create(tmp_path / "faces.db", settings()) as gallery:
        with pytest.raises(InvalidValue, match="identity 'Ada': its references cancel out"):
            gallery.enroll(NewReferences.unlabelled(("Ada", "Ada"), both), model=binding())
        assert gallery.counts().references == 0
        for row in range(2):  # one by one nobody sees it coming
            gallery.enroll(NewReferences.unlabelled(("Ada",), both[row : row + 1]), model=binding())
        with pytest.raises(InvalidValue, match=r"identity 'Ada': its references cancel out .* delete it"):
            gallery.search(one, model=binding())
        assert "identity 'Ada': its references cancel out" in gallery.verify()[0]
        gallery.delete(["Ada"])
        assert gallery.verify() == ()
        assert gallery.search(one, model=binding()) == ((),)
    with Gallery.create(tmp_path / "all.db", settings("all")) as gallery:
        gallery.enroll(NewReferences.unlabelled(("Ada", "Ada"), both), model=binding())
        assert len(gallery.search(one, model=binding())[0]) == 1


def test_read_only(tmp_path: Path) -> None:
    path = tmp_path / "faces.db"
    with Gallery.create(path, settings()) as gallery:
        gallery.enroll(people(["Ada", "Bob"]), model=binding())
    with Gallery.open(path, read_only=True) as gallery:
        with pytest.raises(StorageError, match="opened to read only"):
            gallery.enroll(people(["Eve"]), model=binding())
        with pytest.raises(StorageError, match="opened to read only"):
            gallery.delete(["Ada"])
        assert gallery.search(faces(0, 1), model=binding())[0][0].name == "Ada"
    assert not (tmp_path / "faces.db.index").exists()


def test_deleting_nobody_known_changes_nothing(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "faces.db", settings()) as gallery:
        gallery.enroll(people(["Ada", "Bob"]), model=binding())
        before = gallery.search(faces(0, 2), model=binding())
        with pytest.raises(InvalidValue, match="Eve"):
            gallery.delete(["Ada", "Eve"])
        assert gallery.search(faces(0, 2), model=binding()) == before


def test_a_database_address_goes_to_its_engine() -> None:
    with pytest.raises(StorageError, match=r"127\.0\.0\.1"):
        Gallery.open("postgresql://user:secret@127.0.0.1:9/none?connect_timeout=2")


@pytest.mark.parametrize("templates", TEMPLATES)
def test_threads_search_while_others_enrol_and_delete(templates: Templates, tmp_path: Path) -> None:
    """Whoever is there all the time is found by every search, and nobody who is deleted before it began."""
    stay, probe_rows = faces(1, 40), faces(1, 40)
    failures: list[BaseException] = []
    stop, deleted = threading.Event(), set[str]()
    with (
        Gallery.create(tmp_path / "faces.db", settings(templates)) as gallery,
        Gallery.open(tmp_path / "faces.db") as other,
    ):
        gallery.enroll(NewReferences.unlabelled(tuple(f"stay {row}" for row in range(40)), stay), model=binding())

        def searching(shared: Gallery, seed: int) -> None:
            rng = np.random.default_rng(seed)
            try:
                while not stop.is_set():
                    gone = set(deleted)
                    row = int(rng.integers(40))
                    found = shared.search(probe_rows[row : row + 1], model=binding(), top=100, metric="cosine")[0]
                    names = [candidate.name for candidate in found]
                    assert names[0] == f"stay {row}"
                    assert {f"stay {number}" for number in range(40)} <= set(names)
                    assert not gone & set(names)
                    assert len(set(names)) == len(names)
            except BaseException as error:  # noqa: BLE001 - told below, in the test's own thread
                failures.append(error)

        threads = [
            threading.Thread(target=searching, args=(shared, seed))
            for seed, shared in enumerate([gallery, gallery, other])
        ]
        for thread in threads:
            thread.start()
        for turn in range(25):
            names = [f"guest {turn} {row}" for row in range(3)]
            # Those who stay get another reference, which moves them from the main index into the tail.
            more = NewReferences.unlabelled((f"stay {turn}",), stay[turn : turn + 1])
            gallery.enroll(people(names, 50 + turn), model=binding())
            other.enroll(more, model=binding())
            (gallery if turn % 2 else other).delete(names)
            deleted.update(names)
        stop.set()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]


def test_someone_deleted_between_search_and_names_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is asked for names after the search; a real deletion is put right before."""
    path = tmp_path / "faces.db"
    with Gallery.create(path, settings()) as gallery, Gallery.open(path) as other:
        gallery.enroll(people(["Ada", "Bob", "Eve", "Kim"], 3), model=binding())
        probe, names = faces(3, 1), SqliteStore.names
        assert gallery.search(probe, model=binding(), top=2, metric="cosine")[0][0].name == "Ada"

        def late(store: SqliteStore, identities: list[int]) -> dict[int, str]:
            monkeypatch.setattr(SqliteStore, "names", names)
            other.delete(["Ada"])
            return names(store, identities)

        monkeypatch.setattr(SqliteStore, "names", late)
        found = gallery.search(probe, model=binding(), top=2, metric="cosine")[0]
        assert len(found) == 2
        assert all(isinstance(candidate, Candidate) and candidate.name != "Ada" for candidate in found)
