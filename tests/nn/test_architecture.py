"""Every architecture by its name: builds, keeps the contract of FaceNetwork, says how it takes a face."""

import math
from typing import get_args

import pytest
import torch

from probface.contract import InputSpec
from probface.errors import InvalidValue
from probface.nn.architecture import Arch, Architecture, as_module, build_backbone
from probface.nn.backbones.iresnet import IResNet
from probface.nn.backbones.mobilefacenet import MobileFaceNet
from probface.nn.backbones.resface import ResFace

KINDS = {"resface": ResFace, "iresnet": IResNet, "mobilefacenet": MobileFaceNet}
every_name = pytest.mark.parametrize("name", get_args(Arch))


@every_name
def test_contract_of_a_face_network(name: Arch) -> None:
    architecture = Architecture(name, width=0.5, dim=24)
    with torch.device("meta"):
        network = build_backbone(architecture)
        found = network(torch.empty(2, 3, *network.size))
    assert type(network) is next(kind for start, kind in KINDS.items() if name.startswith(start))
    assert network.dim == 24
    assert found.embedding.shape == (2, 24)
    assert tuple(stage.shape[1] for stage in found.stages) == network.channels
    areas = [stage.shape[2] * stage.shape[3] for stage in found.stages]
    assert len(areas) == 4
    assert areas == sorted(areas, reverse=True)
    assert len(set(areas)) == 4
    assert (architecture.input.height, architecture.input.width) == network.size


@every_name
def test_width_and_depth_reach_the_network(name: Arch) -> None:
    def parameters(width: float) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in as_module(build_backbone(Architecture(name, width))).parameters())

    assert parameters(0.5) < 0.6 * parameters(1.0)
    depth = "".join(filter(str.isdigit, name))
    if depth:
        with torch.device("meta"):
            module = as_module(build_backbone(Architecture(name)))
        kernels = [m.kernel_size for m in module.modules() if isinstance(m, torch.nn.Conv2d)]
        # The names count convolutions of three pixels, and InsightFace's the embedding layer, too.
        embedding = 0 if name.startswith("resface") else 1
        assert sum(kernel == (3, 3) for kernel in kernels) + embedding == int(depth)


def test_dropout_reaches_resface() -> None:
    network = as_module(build_backbone(Architecture("resface20", 1 / 16, 8, dropout=0.4)))
    assert [module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)] == [0.4]


@every_name
def test_input(name: Arch) -> None:
    if name.startswith("resface"):
        expected = InputSpec(96, 96, "rgb", mean=128.0, scale=128.0, template="arcface")
    else:
        expected = InputSpec(112, 112, "rgb", mean=127.5, scale=127.5, template="arcface")
    assert Architecture(name).input == expected


def test_the_same_object_as_a_module() -> None:
    network = build_backbone(Architecture("mobilefacenet", 1 / 16, 8))
    assert as_module(network) is network


@pytest.mark.parametrize("name", ["resface18", "iresnet", "ResFace64", ""])
def test_unknown_name(name: str) -> None:
    with pytest.raises(InvalidValue, match=rf"architecture '{name}': must be one of resface20, .*, mobilefacenet"):
        Architecture(name)


@pytest.mark.parametrize(
    "options",
    [
        *({"width": width} for width in (0.0, -1.0, 8.5, math.nan, math.inf)),
        *({"dim": dim} for dim in (1, 0, -5)),
        *({"dropout": dropout} for dropout in (-0.1, 1.0, math.nan)),
    ],
    ids=str,
)
def test_values_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(InvalidValue, match="the width must be above 0 and 8 at most, dim 2 or more, dropout from 0 to"):
        Architecture(**options)


@every_name
def test_a_width_that_leaves_no_channel(name: Arch) -> None:
    with pytest.raises(InvalidValue, match=r"width 0\.001: must leave at least one channel"):
        build_backbone(Architecture(name, width=0.001))
