"""One array of an ``.npz`` file written in blocks, so that memory does not grow with it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_column(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: str, blocks: Iterable[NDArray[Any]]
) -> None:
    """Add the array ``name``, its rows given in blocks that come to ``shape`` together.

    Args:
        archive: an open ``.npz``; nothing else is written to it meanwhile.
        name: of the array.
        shape: of all of it.
        dtype: of the file, such as ``<f4``; every block is turned into it.
        blocks: its rows, in order.
    """
    with archive.open(name + ".npy", "w", force_zip64=True) as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block.astype(dtype, copy=False)).tobytes())


def write_text(archive: zipfile.ZipFile, name: str, text: str) -> None:
    """Add one text as an array without axes."""
    with archive.open(name + ".npy", "w") as file:
        np.lib.format.write_array(file, np.array(text), allow_pickle=False)
