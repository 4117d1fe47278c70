import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from probface.errors import StorageError
from probface.train.arrays import ResumableArray


def test_rows_stay_where_they_were_put(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.npy"
    array = ResumableArray(path, (5, 2), np.float32)
    assert (array.done, array.complete) == (0, False)
    array.append(np.ones((2, 2)))
    again = ResumableArray(path, (5, 2), np.float32)
    assert again.done == 2
    again.append(np.full((3, 2), 2))
    assert again.complete
    np.testing.assert_array_equal(np.load(path), [[1, 1], [1, 1], [2, 2], [2, 2], [2, 2]])


def test_another_shape_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    ResumableArray(path, (5, 2), np.float32).append(np.ones((2, 2)))
    array = ResumableArray(path, (6, 2), np.float32)
    assert array.done == 0
    assert array.values.shape == (6, 2)


def test_what_was_not_recorded_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    array = ResumableArray(path, (4, 1), np.float32)
    array.append(np.ones((1, 1)))
    array.values[1:3] = 7  # written, and then killed before it was recorded
    del array
    again = ResumableArray(path, (4, 1), np.float32)
    assert again.done == 1


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="PROBFACE_CACHE"):
        ResumableArray(tmp_path / "file" / "a.npy", (4, 1), np.float32)


FULL = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from probface.errors import StorageError
from probface.train.arrays import ResumableArray
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    ResumableArray(Path(sys.argv[1]), (1000, 1000), np.float32)
except StorageError as error:
    print(error)
"""


def test_a_full_disk_is_refused_at_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path / "a.npy")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot be written" in ended.stdout
    assert "PROBFACE_CACHE" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_rows_of_a_lost_array_are_not_taken_for_those_of_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    ResumableArray(path, (4, 1), np.float32).append(np.ones((4, 1)))
    path.unlink()
    again = ResumableArray(path, (4, 1), np.float32)
    assert again.done == 0
    again.append(np.ones((4, 1)))
    path.unlink()
    command = [sys.executable, "-c", KILLED, str(path)]
    assert subprocess.run(command, check=False).returncode == -9
    assert path.exists()
    assert ResumableArray(path, (4, 1), np.float32).done == 0


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from probface.train import arrays
arrays.write_bytes = lambda *_: os.kill(os.getpid(), 9)
arrays.ResumableArray(Path(sys.argv[1]), (4, 1), np.float32)
"""


@pytest.mark.parametrize("content", [b"", b"no array", None], ids=["empty", "text", "cut short"])
def test_a_damaged_array_begins_anew(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.npy"
    ResumableArray(path, (500, 3), np.float32).append(np.ones((500, 3)))
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    assert ResumableArray(path, (500, 3), np.float32).done == 0
    path.with_suffix(".json").write_text("")
    assert ResumableArray(path, (500, 3), np.float32).done == 0


def test_another_kind_of_number_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    ResumableArray(path, (5, 2), np.float32).append(np.ones((5, 2)))
    array = ResumableArray(path, (5, 2), np.uint8)
    assert (array.done, array.values.dtype) == (0, np.uint8)
