"""Tar shards in the WebDataset manner: files that share a key are one sample.

000017.jpg      the image
000017.cls      its label, as text (optional)
000017.json     or an object with a "label" (optional)
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from probface.errors import DataError
from probface.readers.folder import is_image_name
from probface.readers.item import Item, Span


def read_shard(path: Path) -> Iterator[Item]:
    """The images of one shard, in its order; the bytes of an image are read when it is asked for.

    An item's name is the shard's path, a slash and the member's name. The files of one sample stand together, as
    WebDataset requires; other files are passed over.

    Raises:
        DataError: not a plain (uncompressed) tar file, cut short, or a label that cannot be read.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            files = (member for member in members(tar) if member.isfile())
            for key, group in groupby(files, key=lambda member: _key(member.name)):
                sample = list(group)
                label = _label(tar, sample, f"{path}, sample {key}")
                for member in sample:
                    if is_image_name(member.name):
                        yield Item(
                            f"{path.as_posix()}/{member.name}", Span(path, member.offset_data, member.size), label
                        )
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            f"shard {path}: not a complete plain tar file ({error}); decompress it or get it again"
        ) from error


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members, to the true end of the archive.

    Raises:
        tarfile.ReadError: the archive goes on with something that is no member, which tarfile takes for its end.
    """
    while (member := tar.next()) is not None:
        yield member
        # tarfile keeps each member that it has seen, and a shard may have millions.
        tar.members.clear()  # type: ignore[attr-defined]
    tar.fileobj.seek(tar.offset)
    if any(tar.fileobj.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"no member begins at byte {tar.offset}")


def _key(name: str) -> str:
    """The path up to the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _label(tar: tarfile.TarFile, sample: list[tarfile.TarInfo], where: str) -> str | None:
    for member in sample:
        suffix = member.name.rpartition(".")[2]
        if suffix not in ("cls", "json"):
            continue
        file = tar.extractfile(member)
        text = file.read() if file else b""
        try:
            label = text.decode() if suffix == "cls" else json.loads(text).get("label")
        except (UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
            raise DataError(
                f"{where}.{suffix}: not the text or JSON object that a label is kept in; mend it"
            ) from error
        if label is not None:
            return str(label).strip()
    return None
