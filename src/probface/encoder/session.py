"""One network on ONNX Runtime: crops in, arrays out, in batches or one by one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from probface.contract import InputSpec
from probface.encoder.preprocess import check_crops, to_input
from probface.errors import InvalidValue, ModelError, ProviderUnavailable
from probface.types import FloatArray, Image

PROVIDERS = MappingProxyType(
    {
        "cpu": "CPUExecutionProvider",
        "cuda": "CUDAExecutionProvider",
        "tensorrt": "TensorrtExecutionProvider",
        "coreml": "CoreMLExecutionProvider",
        "directml": "DmlExecutionProvider",
        "openvino": "OpenVINOExecutionProvider",
    }
)
"""Our name of an execution provider -> ONNX Runtime's."""

WITH_DEVICES = frozenset({"cuda", "tensorrt", "directml"})
"""Providers of which a machine may have several devices."""

DEFAULT_BATCH = 32

_ERRORS_ONLY = 3
_FILE_ERRORS = (runtime.InvalidGraph, runtime.InvalidProtobuf, runtime.NoSuchFile, UnicodeDecodeError)
_RUNTIME_ERRORS = (
    *(*_FILE_ERRORS, runtime.Fail, runtime.InvalidArgument, runtime.NotImplemented),
    *(runtime.RuntimeException, runtime.EPFail, RuntimeError),
)
"""The last: what C++ throws while a provider starts."""

_SAME = 1e-3
"""How far a row may be, relative to its length, from the same row computed alone: far above rounding, far below 1."""


class Network:
    """A loaded ONNX model that takes aligned faces. Safe to share between threads.

    The first batch shows whether the graph takes batches at all: one row is computed alone and compared. A graph
    that fixes the batch inside runs one by one from then on.

    Args:
        model: an ONNX file, or the bytes of one.
        spec: how a crop becomes the network's input.
        outputs: names of the outputs wanted, each (N, width) float32.
        provider: a key of :data:`PROVIDERS`, with a device's number where there are several: ``cuda:1``. An absent
            one is an error: nothing falls back to the processor.
        threads: on the processor; 0 for all cores.

    Raises:
        ProviderUnavailable: the provider is unknown, not in this ONNX Runtime, or does not start.
        ModelError: ONNX Runtime cannot load the model, or an output is missing.
    """

    def __init__(
        self, model: Path | bytes, spec: InputSpec, outputs: Sequence[str], *, provider: str = "cpu", threads: int = 0
    ) -> None:
        if threads < 0:
            raise InvalidValue(f"threads {threads}: must be 0 (all cores) or more")
        self._session = _open(model, provider, threads)
        self._spec, self._outputs = spec, tuple(outputs)
        self._input = self._session.get_inputs()[0].name
        self._takes_batches: bool | None = None
        given = {output.name: output.shape for output in self._session.get_outputs()}
        missing = [name for name in outputs if name not in given]
        if missing:
            raise ModelError(f"model: has no output {missing[0]!r}; export it again with this version of ProbFace")
        self._widths = [given[name][1] for name in outputs]

    def run(self, crops: Image, batch_size: int = DEFAULT_BATCH) -> tuple[FloatArray, ...]:
        """One (N, width) float32 array for each output.

        Args:
            crops: aligned faces, RGB uint8 (N, height, width, 3); none at all is fine.
            batch_size: how many go through the network at once, 1 or more.

        Raises:
            InvalidValue: crops of another shape or type, or a batch size below 1.
            ModelError: the network fails.
        """
        if batch_size < 1:
            raise InvalidValue(f"batch size {batch_size}: must be 1 or more")
        check_crops(crops, self._spec)
        if len(crops) == 0:
            return tuple(np.zeros((0, width), np.float32) for width in self._widths)
        if len(crops) > 1 and batch_size > 1 and self._takes_batches is None:
            self._takes_batches = self._try_batch(crops[:2])
        step = batch_size if self._takes_batches else 1
        parts = [self._feed(crops[start : start + step]) for start in range(0, len(crops), step)]
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    def _feed(self, crops: Image) -> Sequence[FloatArray]:
        batch = to_input(crops, self._spec)
        try:
            arrays: Sequence[FloatArray] = self._session.run(self._outputs, {self._input: batch})
        except _RUNTIME_ERRORS as error:
            reason = _first_line(error)
            raise ModelError(
                f"model: ONNX Runtime failed on {len(batch)} faces ({reason}); use smaller batches, or export it again"
            ) from error
        wrong = [array.shape for array in arrays if array.ndim != 2 or len(array) != len(batch)]
        if wrong:
            raise ModelError(f"model: an output of shape {wrong[0]} for {len(batch)} faces; export the model again")
        return arrays

    def _try_batch(self, pair: Image) -> bool:
        """Whether two rows together give what the second gives alone."""
        alone = self._feed(pair[1:])
        try:
            together = self._feed(pair)
        except ModelError:
            return False
        # Rows that are not finite compare false, which is well: whoever asked for them refuses them by name.
        with np.errstate(invalid="ignore", over="ignore"):
            return not any(
                np.linalg.norm(both[1] - one[0]) > _SAME * np.linalg.norm(one[0])
                for both, one in zip(together, alone, strict=True)
            )


def available_providers() -> tuple[str, ...]:
    """The providers that this ONNX Runtime has, by our names."""
    present = set(ort.get_available_providers())
    return tuple(name for name, full in PROVIDERS.items() if full in present)


def _open(model: Path | bytes, provider: str, threads: int) -> Any:
    present = available_providers()
    name, colon, device = provider.partition(":")
    if colon and not (name in WITH_DEVICES and device.isdecimal()):
        raise ProviderUnavailable(
            f"provider {provider!r}: a device's number follows {', '.join(sorted(WITH_DEVICES))} only, as in 'cuda:1'; "
            "mend the name"
        )
    if name not in present:
        rule = "is not in this ONNX Runtime" if name in PROVIDERS else "is no known name"
        raise ProviderUnavailable(
            f"provider {provider!r}: {rule}; choose one of {', '.join(present)}, or install an ONNX Runtime with it"
        )
    # ONNX Runtime's Windows builds report usage to Microsoft unless told not to.
    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or available_cores()
    wanted = PROVIDERS[name]
    source = model if isinstance(model, bytes) else os.fspath(model)
    try:
        # Without this, ONNX Runtime prints to standard output and tries again on the processor.
        session = ort.InferenceSession(
            source, options, providers=[(wanted, {"device_id": device} if device else {})], enable_fallback=0
        )
    except _RUNTIME_ERRORS as error:
        reason = _first_line(error)
        if name == "cpu" or isinstance(error, _FILE_ERRORS):
            raise ModelError(f"model: ONNX Runtime cannot load it ({reason}); export it again") from error
        raise ProviderUnavailable(
            f"provider {provider!r}: does not start with this model ({reason}); check its drivers, or choose cpu"
        ) from error
    session.disable_fallback()  # while it runs, too
    if session.get_providers()[0] != wanted:
        raise ProviderUnavailable(
            f"provider {provider!r}: did not start, ONNX Runtime fell back to {session.get_providers()[0]}; "
            "check its drivers, or choose cpu"
        )
    return session


def available_cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
