"""Verification sets are written here by pickle itself; hostile ones are written opcode by opcode."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from probface.errors import DataError
from probface.readers.verification_bin import read_verification_bin

IMAGES = [b"\xff\xd8 one", b"two\x00", bytes(range(256)), b"four"]

NESTED = b"]" * 100_000 + b"a" * 99_999
"""A list in a list in a list ..."""
LAUGHS = b"]" + b"".join(b"q%c0h%ch%c\x86" % (n, n, n) for n in range(40))
"""A tuple that holds 2 ** 40 others."""
DEEP = b")" + b"\x85" * 1_000_000


def _write(path: Path, content: object, protocol: int) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("as_array", [False, True])
@pytest.mark.parametrize("flag", [bool, np.bool_, int, np.int64])
def test_reads_what_pickle_writes(tmp_path: Path, protocol: int, as_array: bool, flag: type) -> None:
    images = [np.frombuffer(image, np.uint8) for image in IMAGES] if as_array else IMAGES
    path = _write(tmp_path / "set.bin", (images, [flag(1), flag(0)]), protocol)
    read = read_verification_bin(path)
    assert [item.source for item in read.items] == IMAGES
    assert read.genuine.tolist() == [True, False]
    assert [item.name for item in read.items] == [f"{path.as_posix()}/0000{i}" for i in range(4)]
    assert {item.label for item in read.items} == {None}


def test_reads_python_2_pickles(tmp_path: Path) -> None:
    # What Python 2's pickle writes, protocol 2: str as SHORT_BINSTRING, numpy arrays with a str state.
    text = b"\x80\x02]q\x00(U\x04\xff\xd8\x00aq\x01U\x02bbq\x02e]q\x03\x88a\x86q\x04."
    (tmp_path / "strings.bin").write_bytes(text)
    read = read_verification_bin(tmp_path / "strings.bin")
    assert [item.source for item in read.items] == [b"\xff\xd8\x00a", b"bb"]
    assert read.genuine.tolist() == [True]
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01(K\x03tcnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x03%stb"
    )
    (tmp_path / "arrays.bin").write_bytes(b"\x80\x02](" + array % b"abc" + array % b"\xff\x00\xfe" + b"e](\x89e\x86.")
    read = read_verification_bin(tmp_path / "arrays.bin")
    assert [item.source for item in read.items] == [b"abc", b"\xff\x00\xfe"]
    assert read.genuine.tolist() == [False]


class _Touch:
    """A pickle of this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_runs_nothing(tmp_path: Path, protocol: int) -> None:
    victim = tmp_path / "made"
    path = _write(tmp_path / "set.bin", ([b"", _Touch(victim)], [True]), protocol)
    with pytest.raises(DataError, match="asks for"):
        read_verification_bin(path)
    assert not victim.exists()
    pickle.loads(path.read_bytes())  # noqa: S301 (shows that the pickle would have worked)
    assert victim.exists()


@pytest.mark.parametrize(
    "name", ["os\nsystem", "builtins\neval", "builtins\ngetattr", "numpy\nload", "numpy.core.multiarray\nfromfile"]
)
def test_refuses_other_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "set.bin").write_bytes(f"c{name}\n(S'x'\ntR.".encode())
    with pytest.raises(DataError, match="which no image or boolean needs"):
        read_verification_bin(tmp_path / "set.bin")


def test_the_message_is_one_line_whatever_the_name(tmp_path: Path) -> None:
    (tmp_path / "set.bin").write_bytes(b"\x80\x04\x8c\x04o\ns\x0b\x8c\x06sys\n\x1dm\x93.")
    with pytest.raises(DataError) as caught:
        read_verification_bin(tmp_path / "set.bin")
    assert len(str(caught.value).splitlines()) == 1
    assert "asks for 'o\\ns" in str(caught.value)


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"no pickle",
        b"\x80\x04.",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aU\x06bz2_xxtR.",  # another encoding
        b"c_codecs\nencode\n}b.",  # a change to a function
        b"c_codecs\nencode\nX\x01\x00\x00\x00a" + NESTED + b"\x86R.",  # another encoding, endless to show
        b"c_codecs\nencode\nX\x01\x00\x00\x00a" + LAUGHS + b"\x86R.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n" + NESTED + b"\x85RC\x01\x01tR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n" + LAUGHS + b"\x85RC\x01\x01tR.",
        b"}" + DEEP + b"K\x01s.",  # hashed, a tuple this deep would overflow the stack
        b"}(" + DEEP + b"K\x01u.",
        b"(" + DEEP + b"K\x01d.",
        b"\x80\x04\x8f(" + DEEP + b"\x90.",
        b"\x80\x04(" + DEEP + b"\x91.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x02\x00\x00\x00O8tRK\x01tR.",
        b"cnumpy\nndarray\n)\x81.",
        b"K\x01Q.",  # an object by its name outside of the file
        b"Pname\n.",
        b"]r\xff\xff\xff\x7f.",  # a memo index that would take 16 GB
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",  # bytes longer than the file
    ],
)
def test_broken_pickles(tmp_path: Path, pickled: bytes) -> None:
    (tmp_path / "set.bin").write_bytes(pickled)
    with pytest.raises(DataError, match=r"set\.bin: no verification set") as caught:
        read_verification_bin(tmp_path / "set.bin")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([b"a"], "must hold a list of images"),
        ({}, "must hold a list of images"),
        ({"a": 1}, "it fills a dict or set"),
        (([b"a", {1}], [True]), "it fills a dict or set"),
        (([b"a", b"b"], [True, False]), "2 images for 2 pairs"),
        (([b"a", "text"], [True]), "must hold encoded images"),
        (([b"a", np.zeros(3, np.float32)], [True]), "must hold encoded images"),
        (([b"a", np.zeros((3, 3), np.uint8)], [True]), "must hold encoded images"),
        (([b"a", b"b"], [2]), "must hold encoded images"),
        (([b"a", b"b"], ["yes"]), "must hold encoded images"),
    ],
)
def test_other_contents(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_verification_bin(_write(tmp_path / "set.bin", content, 4))


@pytest.mark.parametrize("kind", [NESTED, LAUGHS])
def test_an_array_of_a_strange_kind(tmp_path: Path, kind: bytes) -> None:
    array = b"cnumpy\nndarray\n)R(K\x01K\x03\x85cnumpy\ndtype\n" + kind + b"\x85R\x89C\x03abctb"
    (tmp_path / "set.bin").write_bytes(b"\x80\x03]" + array + b"aC\x01xa]\x88a\x86.")
    with pytest.raises(DataError, match="must hold encoded images"):
        read_verification_bin(tmp_path / "set.bin")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_verification_bin(tmp_path / "set.bin")


def test_loads_no_numpy_object(tmp_path: Path) -> None:
    # The stand-ins answer for numpy: its own reconstruction, which takes hostile shapes, is never reached.
    path = _write(tmp_path / "set.bin", ([np.zeros(4, np.uint8)] * 2, [True]), 4)
    program = (
        "import sys, numpy; from pathlib import Path; from probface.readers.verification_bin import *\n"
        "module = sys.modules['numpy._core.multiarray']; module._reconstruct = None\n"
        f"assert len(read_verification_bin(Path({str(path)!r})).items) == 2"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
