from pathlib import Path

import pytest
from people_folder import write_people

from probface.errors import DataError
from probface.train.config import DataConfig
from probface.train.data import split


def people_in(items: tuple) -> set[str]:  # type: ignore[type-arg]
    return {item.label for item in items}


def test_nobody_is_on_both_sides(tmp_path: Path) -> None:
    root = write_people(tmp_path / "people", 40)
    divided = split(root, DataConfig(images_per_person=2, calibration_images_per_person=1))
    assert not people_in(divided.training) & people_in(divided.calibration)
    assert people_in(divided.training) | people_in(divided.calibration) == {f"person-{k:02d}" for k in range(40)}
    assert len(divided.training) == 2 * len(people_in(divided.training))
    assert len(divided.calibration) == len(people_in(divided.calibration))
    assert divided.trained_on.startswith(f"{len(divided.training)} images of {len(people_in(divided.training))} people")
    assert "folds 1 to 7 only" in divided.trained_on
    again = split(root, DataConfig(images_per_person=2, calibration_images_per_person=1))
    assert [tuple(part) for part in (again.training, again.calibration)] == [
        tuple(part) for part in (divided.training, divided.calibration)
    ]


def test_one_image_does_not_train(tmp_path: Path) -> None:
    root = write_people(tmp_path / "people", 40)
    divided = split(root, DataConfig())
    someone = divided.training[0].label
    for image in (1, 2):
        (root / str(someone) / f"{image}.png").unlink()
    assert someone not in people_in(split(root, DataConfig()).training)


def test_lfw_is_split_by_its_folds(tmp_path: Path) -> None:
    root = write_people(tmp_path / "lfw-images", 4, images=2)
    for folder in list(root.iterdir()):
        for image in (0, 1):
            (folder / f"{image}.png").rename(folder / f"{folder.name}_{image + 1:04d}.jpg")
    names = sorted(path.name for path in root.iterdir())
    (tmp_path / "people.txt").write_text(
        "10\n" + "".join(f"1\n{name}\t2\n" for name in names) + "".join("0\n" for _ in range(6))
    )
    (tmp_path / "pairs.txt").write_text("10\t300\n")
    divided = split(tmp_path, DataConfig(layout="lfw", train_folds=(1, 3), calibration_folds=(4,)))
    assert people_in(divided.training) == {names[0], names[2]}
    assert people_in(divided.calibration) == {names[3]}
    assert "folds 1, 3 only" in divided.trained_on


def test_sides_without_anybody_are_told(tmp_path: Path) -> None:
    root = write_people(tmp_path / "people", 1)
    with pytest.raises(DataError, match=r"no images to (train|calibrate) on; bring more people"):
        split(root, DataConfig())
