"""The uncertainty head as plain arrays, and the safetensors file that carries it.

The head (Fig. 2 of the paper; section 4 and the reference code) maps the fused features x to the variance:

    s = scale * BN2(fc2(relu(BN1(fc1((x - feature_mean) / feature_scale))))) + shift
    log sigma^2 = gain * log(1e-6 + exp(s)) + offset

BN1 has weight and bias, BN2 has neither; both have epsilon 1e-3; the linear layers have no bias.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from probface.contract import BATCH_NORM_EPSILON, SIGMA_SQ_FLOOR, ModelContract
from probface.errors import ModelError, ModelNotFound
from probface.storage import write_bytes
from probface.types import FloatArray

_CONTRACT_KEY = "contract"


@dataclass(frozen=True, slots=True, eq=False)
class FoldedHead:
    """The head as two affine maps, float64: ``s = weight2 relu(weight1 x + bias1) + bias2``.

    Attributes:
        weight1, bias1: (K, F) and (K,).
        weight2, bias2: (W, K) and (W,).
    """

    weight1: NDArray[np.float64]
    bias1: NDArray[np.float64]
    weight2: NDArray[np.float64]
    bias2: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class HeadWeights:
    """A trained head: all arrays float32. F is the length of the fused vector, K the hidden width, W 1 or D.

    Attributes:
        feature_mean, feature_scale: (F,); the input is standardised by ``(x - mean) / scale``.
        fc1_weight: (K, F).
        bn1_weight, bn1_bias, bn1_running_mean, bn1_running_var: (K,).
        fc2_weight: (W, K).
        bn2_running_mean, bn2_running_var: (W,).
        scale, shift: ().
        contract: what the grafted model will say of itself.
    """

    feature_mean: FloatArray
    feature_scale: FloatArray
    fc1_weight: FloatArray
    bn1_weight: FloatArray
    bn1_bias: FloatArray
    bn1_running_mean: FloatArray
    bn1_running_var: FloatArray
    fc2_weight: FloatArray
    bn2_running_mean: FloatArray
    bn2_running_var: FloatArray
    scale: FloatArray
    shift: FloatArray
    contract: ModelContract

    def __post_init__(self) -> None:
        for name in ARRAYS:
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        if self.fc1_weight.ndim != 2:
            raise ModelError(f"head: fc1.weight has shape {self.fc1_weight.shape}, must be (hidden, features)")
        (hidden, features), width = self.fc1_weight.shape, self.contract.sigma_sq_width
        expected: dict[str, tuple[int, ...]] = {name: (hidden,) for name in ARRAYS if name.startswith("bn1")}
        expected |= {"feature_mean": (features,), "feature_scale": (features,), "fc1_weight": (hidden, features)}
        expected |= {"fc2_weight": (width, hidden), "bn2_running_mean": (width,), "bn2_running_var": (width,)}
        for name in ARRAYS:
            value, shape = getattr(self, name), expected.get(name, ())
            if value.shape != shape or value.dtype != np.float32:
                raise ModelError(f"head: {tensor_name(name)} is {value.dtype} {value.shape}, must be float32 {shape}")
            if not np.isfinite(value).all():
                raise ModelError(f"head: {tensor_name(name)} has values that are not finite; train the head again")
        for name in ("feature_scale", "bn1_running_var", "bn2_running_var"):
            if not (getattr(self, name) >= 0).all() or (name == "feature_scale" and not self.feature_scale.all()):
                raise ModelError(f"head: {tensor_name(name)} has values below its range; train the head again")

    @classmethod
    def of(cls, tensors: Mapping[str, FloatArray], contract: ModelContract) -> HeadWeights:
        """A head from tensors named as torch names them (``fc1.weight``); others are ignored.

        Raises:
            ModelError: one is missing, or has the wrong shape or type.
        """
        missing = [tensor_name(field) for field in ARRAYS if tensor_name(field) not in tensors]
        if missing:
            raise ModelError(f"head: {missing[0]!r} is missing; give a head that ProbFace trained")
        return cls(**{field: tensors[tensor_name(field)] for field in ARRAYS}, contract=contract)

    @property
    def folded(self) -> FoldedHead:
        """Standardisation, batch norms, scale and shift folded into the linear layers."""
        gain1 = _wide(self.bn1_weight) / np.sqrt(_wide(self.bn1_running_var) + BATCH_NORM_EPSILON)
        weight1 = gain1[:, None] * _wide(self.fc1_weight) / _wide(self.feature_scale)
        bias1 = _wide(self.bn1_bias) - gain1 * _wide(self.bn1_running_mean) - weight1 @ _wide(self.feature_mean)
        gain2 = _wide(self.scale) / np.sqrt(_wide(self.bn2_running_var) + BATCH_NORM_EPSILON)
        weight2 = gain2[:, None] * _wide(self.fc2_weight)
        return FoldedHead(weight1, bias1, weight2, _wide(self.shift) - gain2 * _wide(self.bn2_running_mean))

    def log_sigma_sq(self, features: FloatArray) -> NDArray[np.float64]:
        """What the grafted model computes, in numpy: (N, F) fused features to (N, W) ``log sigma^2``, rescaled."""
        head, rescaling = self.folded, self.contract.rescaling
        s = np.maximum(features @ head.weight1.T + head.bias1, 0) @ head.weight2.T + head.bias2
        log_sigma_sq: NDArray[np.float64] = rescaling.gain * np.logaddexp(np.log(SIGMA_SQ_FLOOR), s) + rescaling.offset
        return log_sigma_sq


def _wide(array: FloatArray) -> NDArray[np.float64]:
    return array.astype(np.float64)


ARRAYS = tuple(field.name for field in dataclasses.fields(HeadWeights) if field.name != "contract")
"""The fields of :class:`HeadWeights` that are arrays."""


def tensor_name(field: str) -> str:
    """The name in the file of a field of :class:`HeadWeights`: ``fc1_weight`` is ``fc1.weight``, as torch says."""
    layer, _, rest = field.partition("_")
    return f"{layer}.{rest}" if layer in ("fc1", "fc2", "bn1", "bn2") else field


def load_head(source: str | os.PathLike[str] | bytes) -> HeadWeights:
    """Read a head from a safetensors file, or the bytes of one.

    Raises:
        ModelNotFound: no such file.
        ModelError: not a safetensors file, a tensor or the contract is missing, or has the wrong shape or type.
    """
    where = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        tensors = safetensors.numpy.load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    except FileNotFoundError as error:
        raise ModelNotFound(f"{where}: no such head file; check the path") from error
    except OSError as error:
        raise ModelError(f"{where}: cannot be read ({error.strerror}); give a readable safetensors file") from error
    except safetensors.SafetensorError as error:
        raise ModelError(f"{where}: not a safetensors file ({error}); give a head that ProbFace trained") from error
    except KeyError as error:  # how safetensors says that numpy has no such type
        raise ModelError(
            f"{where}: a tensor of type {error} is in it, must be float32; train the head again"
        ) from error
    if _CONTRACT_KEY not in metadata:
        raise ModelError(f"{where}: {_CONTRACT_KEY!r} is missing; give a head that ProbFace trained")
    try:
        return HeadWeights.of(tensors, ModelContract.from_json(metadata[_CONTRACT_KEY]))
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error


def save_head(head: HeadWeights, path: str | os.PathLike[str]) -> None:
    """Write a head as one safetensors file, whole or not at all.

    Raises:
        StorageError: the file cannot be written.
    """
    tensors = {tensor_name(field): np.asarray(getattr(head, field), order="C") for field in ARRAYS}
    write_bytes(Path(path), safetensors.numpy.save(tensors, metadata={_CONTRACT_KEY: head.contract.to_json()}))
