"""TensorBoard's files, written record by record in the training's own thread.

torch's ``SummaryWriter`` writes from a thread of its own, which tells of a full disk with a traceback, and late.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probface.storage import storage_errors

_NOT_SCALARS = ("step", "steps")


class Board:
    """One event file of TensorBoard.

    Args:
        folder: where it goes; made if it is not there.
        step: how many steps are done; TensorBoard forgets later ones of earlier files.

    Raises:
        StorageError: the folder cannot be written.
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event = Event
        self._folder = folder
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
            self._records = RecordWriter((folder / name).open("wb"))
        self._add(file_version="brain.Event:2")
        self._add(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, line: Mapping[str, Any]) -> None:
        """The numbers of a line of the log, as scalars of its step; raises StorageError."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=value) for name, value in line.items() if name not in _NOT_SCALARS
        ]
        self._add(step=line["step"], summary=Summary(value=values))

    def close(self) -> None:
        """Close the file; raises StorageError."""
        with storage_errors(self._folder):
            self._records.close()

    def _add(self, **fields: Any) -> None:
        with storage_errors(self._folder):
            self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())
            self._records.flush()


def open_board(folder: Path, step: int) -> Board | None:
    """A new event file, or None where TensorBoard is not installed; raises StorageError."""
    try:
        return Board(folder, step)
    except ImportError:
        return None
