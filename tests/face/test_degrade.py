import zlib

import numpy as np
import pytest
from skimage.data import astronaut

from probface.errors import InvalidValue
from probface.face.degrade import COMPOSED, EXTREME, KINDS, MIXTURES, MODERATE, Mixture, Step, degrade, image_rng

FACE = np.ascontiguousarray(astronaut()[50:162, 165:277])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_image(kind: str) -> None:
    before = FACE.copy()
    for strength in (0.1, 0.5, 1.0):
        image = degrade(FACE, kind, strength, rng(3))
        np.testing.assert_array_equal(image, degrade(FACE, kind, strength, rng(3)))
        assert image.shape == FACE.shape
        assert image.dtype == np.uint8
        assert not np.array_equal(image, FACE)
    np.testing.assert_array_equal(FACE, before)


@pytest.mark.parametrize("kind", KINDS)
def test_likeness_falls_with_strength(kind: str) -> None:
    def error(strength: float) -> float:
        images = [degrade(FACE, kind, strength, rng(seed)).astype(float) for seed in range(20)]
        return float(np.mean([(image - FACE) ** 2 for image in images]))

    errors = [error(strength) for strength in (0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    assert errors[0] == 0
    assert (np.diff(errors) > 0).all(), errors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(40, 96, 3), (200, 130, 3)])
def test_any_size_is_taken(kind: str, shape: tuple[int, int, int]) -> None:
    image = rng().integers(0, 256, shape, dtype=np.uint8)
    for strength in (0.01, 1.0):
        assert degrade(image, kind, strength, rng()).shape == shape


def test_blur_keeps_the_light() -> None:
    for kind in ("gaussian_blur", "motion_blur", "resample"):
        assert abs(degrade(FACE, kind, 0.6, rng()).mean() - FACE.mean()) < 3, kind


def test_what_is_unknown_or_out_of_range_is_told() -> None:
    with pytest.raises(InvalidValue, match="'fog': not a known kind; choose one of gaussian_blur"):
        degrade(FACE, "fog", 0.5, rng())
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidValue, match=r"must be in \[0, 1\]"):
            degrade(FACE, "noise", strength, rng())
    with pytest.raises(InvalidValue, match="low <= high"):
        Step("noise", 0.5, 0.2)
    with pytest.raises(InvalidValue, match="must be positive"):
        Step("noise", 0.1, 0.2, weight=0)
    with pytest.raises(InvalidValue, match="as many different kinds"):
        Mixture("twice", (Step("noise", 0, 1),), rounds=2)


def test_a_mixture_draws_within_its_ranges_and_never_one_kind_twice() -> None:
    for mixture in MIXTURES.values():
        ranges = {step.kind: (step.low, step.high) for step in mixture.steps}
        for seed in range(300):
            drawn = mixture.draw(rng(seed))
            assert len({kind for kind, _ in drawn}) == mixture.rounds
            assert all(ranges[kind][0] <= strength <= ranges[kind][1] for kind, strength in drawn)


def test_a_mixture_keeps_its_weights() -> None:
    kinds = [MODERATE.draw(rng(seed))[0][0] for seed in range(3000)]
    for step in MODERATE.steps:
        share = np.mean([kind == step.kind for kind in kinds])
        assert abs(share - step.weight) < 4 * np.sqrt(step.weight / 3000)


def test_compositions_and_extremes_are_worse() -> None:
    def error(mixture: Mixture) -> float:
        return float(np.mean([(mixture(FACE, rng(seed)).astype(float) - FACE) ** 2 for seed in range(60)]))

    assert error(COMPOSED) > error(MODERATE)
    assert EXTREME.rounds == 1
    small = [dict(EXTREME.draw(rng(seed))) for seed in range(100)]
    edges = [112 * (8 / 112) ** drawn["resample"] for drawn in small if "resample" in drawn]
    assert edges
    assert all(7.9 <= edge <= 16.1 for edge in edges)


def test_the_generator_of_an_image_depends_on_its_four_names_alone() -> None:
    # The seeding that caches of features were made with: pinned, so that they stay valid.
    expected = np.random.default_rng([4, zlib.crc32(b"moderate"), 1, zlib.crc32(b"a/b.png")]).random(3)
    np.testing.assert_array_equal(image_rng(4, "moderate", 1, "a/b.png").random(3), expected)
    others = [(5, "moderate", 1, "a/b.png"), (4, "extreme", 1, "a/b.png"), (4, "moderate", 0, "a/b.png")]
    for other in (*others, (4, "moderate", 1, "a/c.png"), (4, "moderate", 1, "k\udcff")):
        assert (image_rng(*other).random(3) != expected).all()
