"""Which code runs, and that the package works without the compiled one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from probface.errors import InvalidValue
from probface.match.native import PORTABLE, choose_path, kernel, paths, thread_count

BEST_FIRST = ("avx512-vnni", "avx-vnni", "avx2", "neon-dotprod", "baseline", PORTABLE)


def test_paths_are_known_and_the_best_is_first() -> None:
    names = [path.name for path in paths()]
    assert names == [name for name in BEST_FIRST if name in names]
    assert names[-1] == PORTABLE
    assert (len(names) > 1) == (kernel() is not None)
    if kernel() is not None:
        assert names[-2] == "baseline"
    fast = {path.name for path in paths() if path.fast_int8}
    assert fast == set(names) & {"avx512-vnni", "avx-vnni", "neon-dotprod"}
    assert [path.name for path in paths() if not path.native] == [PORTABLE]


def test_choice() -> None:
    assert choose_path() == choose_path("auto") == paths()[0]
    for path in paths():
        assert choose_path(path.name) is path
    with pytest.raises(InvalidValue, match=r"path 'mmx': this machine has .*, numpy; choose one of these, or auto"):
        choose_path("mmx")


def test_threads() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert thread_count(0) == cores
    assert (thread_count(1), thread_count(1024)) == (1, 1024)
    for wrong in (-1, 1025):
        with pytest.raises(InvalidValue, match=f"threads {wrong}: must be 0"):
            thread_count(wrong)


WITHOUT = """
import sys
sys.modules["probface.match._kernel"] = None
import numpy as np
from probface.match.exact import SearchIndex, top_k
from probface.match.matrix import score_matrix
from probface.match.native import paths
from probface.types import Embeddings
faces = Embeddings(np.eye(70, dtype=np.float32), np.full((70, 1), 0.5, np.float32))
assert [path.name for path in paths()] == ["numpy"]
found = top_k(faces, faces, 2)
assert (found.indices[:, 0] == np.arange(70)).all()
assert (found.report.path, found.report.prefilter) == ("numpy", "float32")
assert not SearchIndex(faces)._layout.has_codes
assert (score_matrix(faces, faces).argmax(axis=1) == np.arange(70)).all()
print("searched")
"""


def test_everything_works_without_the_compiled_code() -> None:
    ended = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert ended.stdout == "searched\n"
