import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from people_folder import write_people

from probface.encoder.onnx import Encoder
from probface.errors import DataError, TrainingError
from probface.face.image import encode_png, read_image
from probface.models.head_weights import load_head
from probface.models.registry import resolve_model
from probface.readers.open import open_items
from probface.train.config import DataConfig, HeadConfig, HeadRecipe, LossConfig, OptimiserConfig, Variant
from probface.train.head import TrainedHead, train_head

RECIPE = HeadRecipe(
    "tiny",
    data=DataConfig(aligned=True),
    variants=(Variant("clean", share=0.5), Variant("moderate", copies=2, share=0.5)),
    head=HeadConfig(hidden=256),
    loss=LossConfig(lambda_c=0.01, lambda_id=0.05, mining="all"),
    optimiser=OptimiserConfig(steps=60, people=8, images=3),
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("people"), 60)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def trained(network: Path, people: Path, cache: Path, out: Path, recipe: HeadRecipe = RECIPE) -> TrainedHead:
    return train_head(network, people, out, recipe=recipe, cache=cache, licence="MIT")


def test_one_onnx_file_comes_out_that_knows_how_to_be_used(
    network_files: dict[str, Path], people: Path, cache: Path, tmp_path: Path
) -> None:
    made = trained(network_files["resnet"], people, cache, tmp_path / "out")
    contract = resolve_model(tmp_path / "out").contract
    assert contract == made.contract
    assert (contract.name, contract.dim, contract.sigma_sq_width, contract.backbone_licence) == ("tiny", 64, 1, "MIT")
    assert contract.quality is not None
    assert {entry.metric for entry in contract.thresholds} == {"fastmls", "mls", "cosine"}
    assert f"{made.images} images" in contract.trained_on
    # Folds by a hash of the name, as documented: those of 1 to 7 train, and each has two images or more.
    folders = {folder.name for folder in people.iterdir()}
    trained_them = {name for name in folders if 1 + zlib.crc32(name.encode()) % 10 <= 7}
    assert {name for name in folders if contract.trained_on_person(name)} == trained_them
    assert len(contract.training_people) == len(trained_them)

    items = tuple(open_items(people))[:20]
    crops = np.stack([read_image(item.source) for item in items])
    embeddings = Encoder(made.model).encode(crops)
    assert embeddings.mu.shape == (20, 64)
    head = load_head(made.weights)
    assert head.contract == contract


def test_training_again_gives_the_same_head(
    network_files: dict[str, Path], people: Path, cache: Path, tmp_path: Path
) -> None:
    first = trained(network_files["resnet"], people, cache, tmp_path / "first")
    again = trained(network_files["resnet"], people, cache, tmp_path / "again")
    assert first.weights.read_bytes() == again.weights.read_bytes()
    resumed = train_head(
        network_files["resnet"], people, tmp_path / "again", recipe=RECIPE, cache=cache, licence="MIT", resume=True
    )
    assert resumed.weights.read_bytes() == first.weights.read_bytes()


@pytest.mark.parametrize("head", [HeadConfig(fusion=False), HeadConfig(outputs="diagonal", fusion=False)])
def test_heads_on_the_embedding_alone(
    network_files: dict[str, Path], people: Path, cache: Path, tmp_path: Path, head: HeadConfig
) -> None:
    loss = LossConfig() if head.outputs == "diagonal" else RECIPE.loss
    made = trained(network_files["resnet"], people, cache, tmp_path, replace(RECIPE, head=head, loss=loss))
    assert len(made.contract.features) == 1
    crops = np.stack([read_image(item.source) for item in tuple(open_items(people))[:3]])
    width = 64 if head.outputs == "diagonal" else 1
    assert Encoder(made.model).encode(crops).sigma_sq.shape == (3, width)


def test_any_network_gets_a_head(network_files: dict[str, Path], people: Path, tmp_path: Path) -> None:
    cropped = tmp_path / "narrow"
    for item in open_items(people):
        path = cropped / str(item.label) / Path(item.name).name
        path.parent.mkdir(parents=True, exist_ok=True)

        path.write_bytes(encode_png(np.ascontiguousarray(read_image(item.source)[:, 8:104])))
    made = trained(network_files["mobilefacenet"], cropped, tmp_path / "cache", tmp_path / "out")
    assert made.contract.input.width == 96
    assert made.contract.input.template == "arcface-96"
    assert made.contract.dim == 32


def test_resuming_with_another_recipe_is_refused(
    network_files: dict[str, Path], people: Path, cache: Path, tmp_path: Path
) -> None:
    trained(network_files["resnet"], people, cache, tmp_path)
    with pytest.raises(TrainingError, match="seed was 0, is 1"):
        train_head(network_files["resnet"], people, tmp_path, recipe=replace(RECIPE, seed=1), cache=cache, resume=True)


def test_too_few_people_are_told(network_files: dict[str, Path], tmp_path: Path, cache: Path) -> None:
    few = write_people(tmp_path / "few", 6)
    with pytest.raises(DataError, match=r"a batch needs 8; bring more people|no images to"):
        trained(network_files["resnet"], few, cache, tmp_path / "out")
    assert not (tmp_path / "out" / "model.onnx").exists()
