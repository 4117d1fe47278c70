import json
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probface.contract import (
    InputSpec,
    ModelContract,
    QualityScale,
    Rescaling,
    ScoreHistogram,
    Threshold,
    person_digest,
    person_digests,
)
from probface.errors import InvalidValue, ModelError
from probface.types import METRICS

numbers = st.floats(-1e6, 1e6, allow_nan=False)
words = st.text(string.printable, max_size=20)
rates = st.floats(1e-9, 1, exclude_max=True)
few = st.integers(0, 10)
thresholds = st.builds(Threshold, st.sampled_from(METRICS), rates, numbers, rates, st.just(10), few, words)
specs = st.builds(
    InputSpec,
    height=st.integers(8, 512),
    width=st.integers(8, 512),
    channels=st.sampled_from(["rgb", "bgr"]),
    mean=numbers,
    scale=st.floats(1e-3, 1e3),
    template=words,
)
scales = st.tuples(numbers, st.floats(0.1, 10)).map(lambda pair: QualityScale(pair[0], pair[0] + pair[1]))
shares = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(tuple)
edges = st.lists(numbers, min_size=4, max_size=4, unique=True).map(sorted).map(tuple)
histograms = st.builds(ScoreHistogram, st.sampled_from(METRICS), edges, shares, shares, words)
contracts = st.builds(
    ModelContract,
    name=words,
    dim=st.just(128),
    sigma_sq_width=st.sampled_from([1, 128]),
    input=specs,
    backbone_digest=words,
    trained_on=words,
    training_people=st.lists(st.text(max_size=5), max_size=5).map(person_digests),
    features=st.lists(words, max_size=3).map(tuple),
    rescaling=st.builds(Rescaling, st.floats(1e-3, 10), numbers),
    quality=st.none() | scales,
    thresholds=st.lists(thresholds, max_size=3).map(tuple),
    histograms=st.lists(histograms, max_size=2).map(tuple),
    data=st.dictionaries(words, words, max_size=3),
)


def example() -> ModelContract:
    measured = tuple(Threshold("fastmls", fmr, -1.0, 2 * fmr, 1000, 1, "held-out") for fmr in (1e-2, 1e-3))
    return ModelContract("example", 4, 1, InputSpec(), "ab", thresholds=measured)


@given(contracts)
def test_a_contract_survives_json(contract: ModelContract) -> None:
    assert ModelContract.from_json(contract.to_json()) == contract


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "x"}, "unknown key 'nmae'"),
        ({"dim": "four"}, "contract.dim: 'four' must be of type int"),
        ({"dim": True}, "contract.dim: True must be of type int"),
        ({"features": "all"}, "contract.features: 'all' must be of type"),
        ({"input": {"height": 112, "wdith": 112}}, "contract.input: unknown key 'wdith'"),
        ({"quality": {"log_sigma_sq_best": 1.0, "log_sigma_sq_worst": 0.0}}, "the best below the worst"),
        ({"sigma_sq_width": 3}, "must be 1 or D = 4"),
        ({"training_people": ["Anna"]}, "training person 'Anna': must be 16 hexadecimal digits"),
        ({"training_people": ["b" * 16, "a" * 16]}, "training people: must be in ascending order, each once"),
        ({"version": 2}, "version 2: this ProbFace reads version 1"),
    ],
)
def test_what_breaks_the_format_is_named(change: dict[str, object], message: str) -> None:
    text = json.dumps(json.loads(example().to_json()) | change)
    with pytest.raises(ModelError, match=message) as caught:
        ModelContract.from_json(text)
    assert "\n" not in str(caught.value)


def test_a_missing_key_and_text_that_is_no_json() -> None:
    fields = json.loads(example().to_json())
    del fields["backbone_digest"]
    with pytest.raises(ModelError, match="key 'backbone_digest' is missing"):
        ModelContract.from_json(json.dumps(fields))
    with pytest.raises(ModelError, match="is not JSON"):
        ModelContract.from_json("{")
    with pytest.raises(ModelError, match="is not JSON"):
        ModelContract.from_json("[" * 100_000)
    with pytest.raises(ModelError, match="must be of type float"):
        ModelContract.from_json(json.dumps({**json.loads(example().to_json()), "rescaling": {"gain": 10**400}}))
    with pytest.raises(ModelError, match="expected a table"):
        ModelContract.from_json("[]")


def test_thresholds_are_looked_up_by_rate() -> None:
    assert example().threshold("fastmls", 0.001).fmr == 1e-3
    with pytest.raises(InvalidValue, match=r"FMR 0.005: .* carries fastmls thresholds for 0.01, 0.001; choose one"):
        example().threshold("fastmls", 5e-3)
    with pytest.raises(InvalidValue, match="carries cosine thresholds for none"):
        example().threshold("cosine", 1e-3)


def test_training_people_are_known_by_digest_and_never_shown_by_name() -> None:
    assert person_digest("Anna_Lee") == "c09eedd781bfed25"
    labels = ["Anna_Lee", "Bob", "Jos\u00e9", "k\udcff"]  # the last: a folder whose name is no text
    contract = replace(example(), training_people=person_digests([*labels, "Bob"]))
    assert len(contract.training_people) == 4
    assert all(contract.trained_on_person(label) for label in labels)
    assert not any(contract.trained_on_person(label) for label in ("anna_lee", "", "Carl", "zzz"))
    assert "Anna" not in contract.to_json()
    assert "training_people" not in repr(contract)


def test_contracts_of_before_name_nobody() -> None:
    fields = json.loads(example().to_json())
    del fields["training_people"]
    old = ModelContract.from_json(json.dumps(fields))
    assert old.training_people == ()
    assert not old.trained_on_person("Anna_Lee")


@pytest.mark.parametrize(
    "make",
    [
        lambda: InputSpec(height=4),
        lambda: InputSpec(channels="grb"),  # type: ignore[arg-type]
        lambda: InputSpec(scale=0),
        lambda: InputSpec(mean=float("nan")),
        lambda: Rescaling(gain=0),
        lambda: Rescaling(offset=float("inf")),
        lambda: Threshold("fast", 0.1, 0, 0.1, 1, 1, ""),  # type: ignore[arg-type]
        lambda: Threshold("mls", 1.0, 0, 0.1, 1, 1, ""),
        lambda: Threshold("mls", 0.1, float("nan"), 0.1, 1, 1, ""),
        lambda: Threshold("mls", 0.1, 0, 0.1, 1, 2, ""),
        lambda: ScoreHistogram("mls", (0.0, 1.0), (1.0, 0.0), (1.0, 0.0), ""),
        lambda: ScoreHistogram("mls", (0.0, 1.0, 1.0), (1.0, 0.0), (1.0, 0.0), ""),
    ],
)
def test_values_out_of_range(make: object) -> None:
    with pytest.raises(InvalidValue):
        make()  # type: ignore[operator]
