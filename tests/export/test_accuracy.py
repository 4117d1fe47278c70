from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from people_folder import write_people
from scipy.stats import rankdata
from sklearn.metrics import roc_curve

from photos import portrait, save
from probface.contract import InputSpec
from probface.errors import DataError, InvalidValue
from probface.export import accuracy
from probface.export.accuracy import accuracy_change, choose_images, find_faces, parity, random_crops
from probface.types import Embeddings


def _embeddings(people: int, each: int, noise: float, seed: int, width: int = 1) -> tuple[Embeddings, np.ndarray]:
    """``each`` noisy faces of every person, in 32 dimensions."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(people), each)
    mu = rng.normal(size=(people, 32))[labels] + rng.normal(0, 0.9, (len(labels), 32))
    sigma_sq = rng.uniform(0.2, 1.5, (len(labels), width))
    shake = np.random.default_rng(seed)
    mu = mu + noise * shake.normal(size=mu.shape)
    sigma_sq = sigma_sq * np.exp(noise * shake.normal(size=sigma_sq.shape))
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    return Embeddings(mu.astype(np.float32), sigma_sq.astype(np.float32)), labels


def test_parity_against_plain_formulas() -> None:
    before, _ = _embeddings(20, 2, 0, 0)
    after, _ = _embeddings(20, 2, 0.05, 1)
    found = parity(before, after)
    cosines = np.einsum("nd,nd->n", before.mu.astype(float), after.mu.astype(float))
    angles = np.degrees(np.arccos(cosines))
    logs = np.abs(np.log(before.sigma_sq / after.sigma_sq))
    assert found.faces == 40
    assert found.angle_max == pytest.approx(angles.max(), rel=1e-4)
    assert found.angle_mean == pytest.approx(angles.mean(), rel=1e-4)
    assert found.log_sigma_sq_max == pytest.approx(logs.max(), rel=1e-4)
    assert found.log_sigma_sq_median == pytest.approx(np.median(logs), rel=1e-4)
    ranks = [rankdata(each.sigma_sq[:, 0]) for each in (before, after)]
    assert found.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert found.difference == pytest.approx(max(np.abs(before.mu - after.mu).max(), logs.max()), rel=1e-4)


def test_parity_at_its_edges() -> None:
    before, _ = _embeddings(5, 1, 0, 0)
    same = parity(before, before)
    assert (same.angle_max, same.log_sigma_sq_max, same.difference) == (0, 0, 0)
    assert same.spearman == pytest.approx(1)
    assert parity(before[:1], before[:1]).spearman is None
    flipped = Embeddings(-before.mu, before.sigma_sq)
    assert parity(before, flipped).angle_mean == pytest.approx(180, abs=0.05)
    with pytest.raises(InvalidValue, match="must be of the same faces"):
        parity(before, before[:3])
    with pytest.raises(InvalidValue, match="one or more"):
        parity(before[:0], before[:0])


def _scores(embeddings: Embeddings, metric: str) -> np.ndarray:
    """The formulas pair by pair, in float64."""
    mu, sigma_sq = embeddings.mu.astype(float), embeddings.sigma_sq.astype(float)
    scores = []
    for i, j in combinations(range(len(mu)), 2):
        t = sigma_sq[i] + sigma_sq[j]
        if metric == "cosine":
            scores.append(mu[i] @ mu[j])
        elif metric == "fastmls":
            scores.append(-(2 - 2 * mu[i] @ mu[j]) / t[0] - np.log(t[0]))
        else:
            scores.append(-0.5 * np.sum((mu[i] - mu[j]) ** 2 / t + np.log(t)))
    return np.array(scores)


@pytest.mark.parametrize(("width", "own"), [(1, "fastmls"), (32, "mls")])
def test_rates_against_scikit_learn(width: int, own: str) -> None:
    before, people = _embeddings(75, 2, 0, 0, width)
    after, _ = _embeddings(75, 2, 0.3, 1, width)
    change = accuracy_change(before, after, people)
    genuine = np.array([people[i] == people[j] for i, j in combinations(range(150), 2)])
    assert (change.people, change.genuine_pairs, change.impostor_pairs) == (75, 75, 150 * 149 // 2 - 75)
    assert [(rate.metric, rate.fmr) for rate in change.rates] == [
        (metric, fmr) for metric in ("cosine", own) for fmr in (1e-2, 1e-3)
    ]
    for rate in change.rates:
        wanted = []
        for embeddings in (before, after):
            scores = _scores(embeddings, rate.metric)
            fmr, tmr, _ = roc_curve(genuine, scores, drop_intermediate=False)
            wanted.append(tmr[fmr <= rate.fmr].max())
        assert [rate.tar_before, rate.tar_after] == pytest.approx(wanted)
        strictest_first = np.sort(_scores(before, rate.metric)[~genuine])[::-1]
        threshold = strictest_first[int(rate.fmr * len(strictest_first))]  # so many are above it
        kept = np.mean(_scores(after, rate.metric)[~genuine] > threshold)
        assert rate.fmr_kept == pytest.approx(kept, abs=1.5 / np.count_nonzero(~genuine))


def test_too_few_pairs_give_no_number() -> None:
    before, people = _embeddings(24, 2, 0, 0)  # 1104 impostor pairs: enough for 1e-2, not for 1e-3
    rates = accuracy_change(before, before, people).rates
    assert [rate.tar_before is None for rate in rates] == [False, True, False, True]
    assert [rate.fmr_kept is None for rate in rates] == [False, True, False, True]
    alone = accuracy_change(before, before, np.arange(48))  # no genuine pair
    assert alone.genuine_pairs == 0
    assert [rate.tar_after for rate in alone.rates] == [None] * 4
    assert alone.rates[0].fmr_kept is not None


def test_people_calibrate_or_judge_never_both(tmp_path: Path) -> None:
    data = write_people(tmp_path, 12, images=6)
    chosen = choose_images(data, 20)
    calibrating, judging = ({item.label for item in part} for part in (chosen.calibration, chosen.judging))
    assert chosen.labelled
    assert not calibrating & judging
    assert len(chosen.calibration) == 12  # a quarter of 4 images of each of 12 people
    assert len(chosen.judging) == 20
    assert chosen == choose_images(data, 20)
    assert len(choose_images(data).judging) == 36


def test_images_of_nobody_in_particular(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / "photos" / f"{number}.png", np.full((112, 112, 3), 20 * number, np.uint8))
    chosen = choose_images(tmp_path / "photos")
    assert not chosen.labelled
    assert (len(chosen.calibration), len(chosen.judging)) == (2, 6)
    assert find_faces(chosen.judging, InputSpec(), labelled=False, aligned=True).people is None
    with pytest.raises(DataError, match="some must calibrate and others judge"):
        choose_images(tmp_path / "photos" / "0.png")
    with pytest.raises(InvalidValue, match="images 0"):
        choose_images(tmp_path, 0)


def test_of_lfw_only_the_last_folds(tmp_path: Path) -> None:
    write_people(tmp_path / "lfw", 10, images=1)
    for image in sorted((tmp_path / "lfw").glob("*/*.png")):
        save(image.with_name(f"{image.parent.name}_0001.jpg"), np.full((112, 112, 3), 90, np.uint8))
    rows = [f"1\nperson-{number:02d}\t1\n" for number in range(10)]
    (tmp_path / "people.txt").write_text("10\n" + "".join(rows))
    (tmp_path / "pairs.txt").write_text("")
    chosen = choose_images(tmp_path)
    assert {item.label for item in (*chosen.calibration, *chosen.judging)} == {"person-07", "person-08", "person-09"}


def test_faces_are_found_and_failures_counted(tmp_path: Path) -> None:
    save(tmp_path / "anna" / "1.png", portrait(300))
    save(tmp_path / "bert" / "1.png", portrait(320, noise=5))
    save(tmp_path / "bert" / "wall.png", np.full((300, 300, 3), 120, np.uint8))
    (tmp_path / "bert" / "text.jpg").write_text("no image")
    items = [item for part in (choose_images(tmp_path),) for item in (*part.calibration, *part.judging)]
    done: list[int] = []
    found = find_faces(items, InputSpec(), labelled=True, progress=done.append)
    assert found.crops.shape == (2, 112, 112, 3)
    assert found.people is not None
    assert sorted(found.people) == [0, 1]
    assert (found.failed, sum(done)) == (2, 4)
    with pytest.raises(DataError, match=r"no face in any of 1 images; the first failed so: .*wall"):
        find_faces([item for item in items if "wall" in item.name], InputSpec(), labelled=True)


def test_random_crops() -> None:
    crops = random_crops(InputSpec(112, 96), 3)
    assert crops.shape == (3, 112, 96, 3)
    np.testing.assert_array_equal(crops, accuracy.random_crops(InputSpec(112, 96), 5)[:3])
