from dataclasses import dataclass, field
from typing import Literal

import pytest

from probface.errors import InvalidValue
from probface.schema import from_plain


@dataclass(frozen=True)
class Inner:
    size: int


@dataclass(frozen=True)
class Outer:
    name: str
    share: float = 0.5
    kind: Literal["a", "b"] = "a"
    pair: tuple[int, str] = (1, "x")
    many: tuple[Inner, ...] = ()
    maybe: Inner | None = None
    table: dict[str, float] = field(default_factory=dict)
    flag: bool = False


def test_everything_that_fits_is_taken() -> None:
    plain = {
        "name": "n",
        "share": 1,
        "kind": "b",
        "pair": [2, "y"],
        "many": [{"size": 1}, {"size": 2}],
        "maybe": {"size": 3},
        "table": {"k": 4},
        "flag": True,
    }
    expected = Outer("n", 1.0, "b", (2, "y"), (Inner(1), Inner(2)), Inner(3), {"k": 4.0}, flag=True)
    made = from_plain(Outer, plain, "here")
    assert made == expected
    assert isinstance(made.share, float)
    assert from_plain(Outer, {"name": "n"}, "here") == Outer("n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nam": 1}, r"here: unknown key 'nam'; the known ones are name, share"),
        ({"name": 3}, r"here.name: 3 must be of type str"),
        ({"share": "1"}, r"here.share: '1' must be of type float"),
        ({"share": True}, r"here.share: True must be of type float"),
        ({"flag": 1}, r"here.flag: 1 must be of type bool"),
        ({"kind": "c"}, r"here.kind: 'c' must be one of 'a', 'b'"),
        ({"pair": [1]}, r"here.pair: \[1\] must have 2 entries"),
        ({"pair": [1, 2]}, r"here.pair\[1\]: 2 must be of type str"),
        ({"many": [{"size": 1}, {"siez": 1}]}, r"here.many\[1\]: unknown key 'siez'"),
        ({"many": [{}]}, r"here.many\[0\]: key 'size' is missing"),
        ({"maybe": 3}, r"here.maybe: expected a table"),
        ({"table": {"k": "v"}}, r"here.table.k: 'v' must be of type float"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        from_plain(Outer, {"name": "n"} | change, "here")
