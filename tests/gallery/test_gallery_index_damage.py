"""An index file that is damaged or of something else: made anew where it shows, told by verify where it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from gallery_model import DIM, PROBES, asked, assert_answers, binding, filled, index_of, named

from probface.errors import StorageError
from probface.gallery.engines.sqlite import SqliteStore
from probface.gallery.gallery import Gallery
from probface.gallery.records import Templates
from probface.match import index_file

TEMPLATES: tuple[Templates, ...] = get_args(Templates)


def damage(path: Path, name: str, value: int, at: int = 0) -> None:
    """Put a number into an array of the index file."""
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[8:16], "little")
    dtype, _, offset = json.loads(content[16 : 16 + length])["arrays"][name]
    size = np.dtype(dtype).itemsize
    content[offset + at * size : offset + (at + 1) * size] = np.array(value, dtype).tobytes()
    path.write_bytes(content)


def header_changed(path: Path, **meta: object) -> None:
    content = path.read_bytes()
    length = int.from_bytes(content[8:16], "little")
    header = json.loads(content[16 : 16 + length])
    header["meta"] |= meta
    path.write_bytes(content[:16] + json.dumps(header).encode().ljust(length) + content[16 + length :])


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-5000]),
    "other letters": lambda path: path.write_bytes(b"X" + path.read_bytes()[1:]),
    "no JSON": lambda path: path.write_bytes(path.read_bytes()[:16] + b"[" + path.read_bytes()[17:]),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "missing": lambda path: path.unlink(),
    "order out of range": lambda path: damage(path, "order", 1 << 40, 3),
    "order below": lambda path: damage(path, "order", -2, 3),
    "identities not ascending": lambda path: damage(path, "extra.identities", 9999, 3),
    "buckets astray": lambda path: damage(path, "bucket_first", 64 * 1000, 1),
    "another version": lambda path: header_changed(path, version=2),
    "another model": lambda path: header_changed(path, model="f" * 64),
    "other templates": lambda path: header_changed(path, templates="all"),
    "another estimator": lambda path: header_changed(path, estimator="minimum"),
    "no generation": lambda path: header_changed(path, generation="new"),
    "from the future": lambda path: header_changed(path, generation=10**6),
}


@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_damaged_index_is_never_an_error(what: str, read_only: bool, tmp_path: Path) -> None:
    path = tmp_path / "faces.db"
    model = filled(path)
    DAMAGES[what](index_of(path))
    if what == "a folder" and not read_only:  # the one thing that cannot be mended without asking
        with pytest.raises(StorageError, match=r"faces.db.index: .*remove it"):
            Gallery.open(path)
        return
    with Gallery.open(path, read_only=read_only) as gallery:
        assert_answers(gallery, model, PROBES, 5, "fastmls")
    if not read_only:
        asked(path, model)


@pytest.mark.parametrize("templates", TEMPLATES)
def test_verify_tells_what_differs(templates: Templates, tmp_path: Path) -> None:
    path = tmp_path / "faces.db"
    filled(path, templates)
    index, sound = index_of(path), index_of(path).read_bytes()
    with Gallery.open(path) as gallery:
        for what, at, value, told in [
            ("mu", 40 * DIM, 0.25, "1 of its rows have other vectors"),
            ("variances", 40, 0.25, "1 of its rows have other vectors"),
            ("extra.references", 40, 9999, "its people are not the gallery's"),
            ("extra.identities", -1, 9999, "its people are not the gallery's"),
            ("order", 7, -1, "search order or codes"),
            ("sigma_sq", 7, 0.25, "search order or codes"),
            ("codes", 70, 255, "search order or codes"),
            ("tile_scale", 0, 3, "search order or codes"),
            ("tile_norm", 0, 0.5, "search order or codes"),
            ("bucket_low", 0, 100, "search order or codes"),
        ]:
            index.write_bytes(sound)
            rows = len(index_file.read(index)[0]["order"])
            damage(index, what, value, at % rows if at < 0 else at)  # type: ignore[arg-type]
            (found,) = gallery.verify()
            assert found.startswith(f"{index}: "), what
            assert told in found, what
            assert found.endswith("delete it, so that it is made anew")
        index.write_bytes(sound)
        gallery.enroll(named(1000, 2), model=binding())
        gallery.enroll(named(50, 2), model=binding())
        assert gallery.verify() == ()  # behind is fine
        store = SqliteStore.open(path)
        store.delete(["p60"])  # past the index
        store.close()
        assert gallery.verify() == ()
