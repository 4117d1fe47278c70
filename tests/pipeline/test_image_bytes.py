"""Which files are read as images: regular ones, of a size that an image has."""

import os
from pathlib import Path

import pytest

from probface.errors import ImageTooLarge, UnreadableImage
from probface.pipeline.image_bytes import MAX_FILE_BYTES, checked_source, read_regular


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices are files on POSIX systems only")
def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(UnreadableImage, match=f"image {path}: no regular file, but a pipe or device"):
            checked_source(path)


def test_files_are_measured_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # takes no room on the disk
    with pytest.raises(ImageTooLarge, match=r"large.png: a file of 200000001 bytes, over the limit of 200000000"):
        checked_source(str(path))
    path.write_bytes(b"some")
    assert (checked_source(path), read_regular(path, "x")) == (b"some", b"some")
    assert checked_source(b"bytes") == b"bytes"
    assert checked_source(tmp_path / "gone.png") == tmp_path / "gone.png"  # the reader of images says why
    with pytest.raises(OSError, match="gone"):
        read_regular(tmp_path / "gone.png", "x")
