import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from people_folder import write_people

from probface.contract import InputSpec
from probface.errors import InvalidValue, TrainingError
from probface.face.align import resize_aligned
from probface.face.image import encode_png, read_image
from probface.readers.item import Item
from probface.readers.open import open_items
from probface.readers.recordio import MAGIC
from probface.train.config import DataConfig
from probface.train.crops import TRIES, CachedCrops, CropSource, EncodedCrops, read_batch
from probface.train.data import crops_of, split
from probface.train.features import cache_faces
from probface.train.image_table import ImageTable
from probface.types import Image
from probface.writers.recordio import write_recordio

SPEC = InputSpec(96, 96)


def same(image: Image, place: int) -> Image:
    return image


def numbered(images: int, broken: set[int]) -> EncodedCrops:
    """Image i is grey of value i and belongs to person i // 2; some are no images."""
    items = []
    for i in range(images):
        content = b"no image" if i in broken else encode_png(np.full((96, 96, 3), i, np.uint8))
        items.append(Item(f"image-{i}", content, f"{i // 2:03d}"))
    return EncodedCrops(ImageTable(items), SPEC)


def test_each_image_comes_changed_and_in_its_place() -> None:
    source = numbered(10, set())
    batch = read_batch(source, np.array([7, 0, 7]), lambda image, place: image + 100 * place)
    assert batch.crops.shape == (3, 96, 96, 3)
    assert batch.crops[:, 0, 0, 0].tolist() == [7, 100, 207]
    assert batch.people.tolist() == [3, 0, 3]
    assert batch.images.tolist() == [7, 0, 7]
    assert batch.broken == ()
    assert (source.classes, len(source.people), source.name(7)) == (5, 10, "image-7")


def test_the_next_image_takes_the_place_of_an_unreadable_one() -> None:
    batch = read_batch(numbered(10, {3, 4, 9}), np.array([2, 3, 9, 5]), same)
    assert batch.images.tolist() == [2, 5, 0, 5]
    assert batch.crops[:, 0, 0, 0].tolist() == [2, 5, 0, 5]
    assert batch.people.tolist() == [1, 2, 0, 2]  # whose the image is that was read
    assert [re.findall(r"image-\d", message) for message in batch.broken] == [["image-3"], ["image-4"], ["image-9"]]
    assert "not an image of a known format" in batch.broken[0]


def test_too_many_unreadable_images_in_a_row_stop_training() -> None:
    images = TRIES + 4
    just = numbered(images, set(range(2, 2 + TRIES - 1)))
    assert read_batch(just, np.array([2]), same).images.tolist() == [TRIES + 1]
    many = numbered(images, set(range(2, 2 + TRIES)))
    with pytest.raises(TrainingError, match=rf"16 images in a row cannot be read; the last: image image-{TRIES + 1}"):
        read_batch(many, np.array([2]), same)


def test_a_file_that_is_gone_is_replaced(tmp_path: Path) -> None:
    root = write_people(tmp_path / "people", 2)
    source = EncodedCrops(ImageTable(open_items(root)), SPEC)
    (root / "person-00" / "1.png").unlink()
    batch = read_batch(source, np.arange(6), same)
    assert batch.images.tolist() == [0, 2, 2, 3, 4, 5]
    assert "no such file" in batch.broken[0]


@pytest.fixture
def record_file(tmp_path: Path) -> Path:
    path = tmp_path / "set" / "train.rec"
    path.parent.mkdir()
    write_recordio(open_items(write_people(tmp_path / "people", 4)), path)
    return path


def place_of(path: Path, key: int) -> int:
    lines = path.with_suffix(".idx").read_text().splitlines()
    return dict(tuple(map(int, line.split())) for line in lines)[key]  # type: ignore[misc]


def all_of(path: Path) -> tuple[CropSource, tuple[tuple[str, str], ...]]:
    config = DataConfig(train_folds=tuple(range(1, 11)), calibration_folds=(), aligned=True)
    return crops_of(split(path, config).training, config, SPEC, path.parent, None)


def test_a_record_whose_image_is_damaged_is_replaced_and_found_by_its_byte(record_file: Path) -> None:
    offset = place_of(record_file, 5)
    content = bytearray(record_file.read_bytes())
    content[offset + 40 : offset + 60] = bytes(20)  # past the frame and the labels
    record_file.write_bytes(content)
    source, failed = all_of(record_file)
    assert failed == ()
    batch = read_batch(source, np.arange(12), same)
    assert batch.images.tolist() == [0, 1, 2, 3, 5, 5, *range(6, 12)]
    (message,) = batch.broken
    assert f"{record_file.as_posix()}/5" in message
    assert f"at byte {offset + 32}: " in message


@pytest.mark.parametrize("indexed", [True, False])
def test_a_record_whose_frame_is_damaged_is_left_out_and_found_by_its_byte(record_file: Path, indexed: bool) -> None:
    offset = place_of(record_file, 5)
    content = bytearray(record_file.read_bytes())
    assert content[offset : offset + 4] == MAGIC.to_bytes(4, "little")
    content[offset] ^= 255
    record_file.write_bytes(content)
    if not indexed:
        record_file.with_suffix(".idx").unlink()
    source, failed = all_of(record_file)
    assert len(source.people) == 11
    assert source.classes == 4
    ((name, reason),) = failed
    assert name == f"{record_file.as_posix()}/5"
    assert f"record 5 at byte {offset}" in reason
    batch = read_batch(source, np.arange(11), same)
    assert batch.broken == ()
    assert batch.people.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3]


def test_aligned_images_are_scaled_as_opencv_scales(tmp_path: Path) -> None:
    root = write_people(tmp_path / "people", 1)
    source = EncodedCrops(ImageTable(open_items(root)), SPEC)
    original = read_image(root / "person-00" / "1.png")
    assert original.shape == (112, 112, 3)
    np.testing.assert_array_equal(source.crop(1), cv2.resize(original, (96, 96), interpolation=cv2.INTER_LINEAR))
    same_size = EncodedCrops(ImageTable(open_items(root)), InputSpec(112, 112))
    np.testing.assert_array_equal(same_size.crop(1), original)


def test_a_plane_stays_a_plane_when_it_shrinks() -> None:
    """Pixel centres keep their places: an image that rises evenly rises evenly, without a shift."""
    y, x = np.mgrid[0:112, 0:112] + 0.5
    image = np.repeat((x + y)[:, :, None], 3, axis=2).astype(np.uint8)
    small = resize_aligned(image, (96, 96), "x")
    y, x = (np.mgrid[0:96, 0:96] + 0.5) * 112 / 96
    np.testing.assert_allclose(small[2:-2, 2:-2, 0], (x + y)[2:-2, 2:-2], atol=1.01)


def test_far_larger_images_are_averaged_not_skipped() -> None:
    stripes = np.zeros((448, 448, 3), np.uint8)
    stripes[:, ::4] = 200
    small = resize_aligned(stripes, (112, 112), "x")
    np.testing.assert_array_equal(small, np.full((112, 112, 3), 50))


@pytest.mark.parametrize(("size", "wanted"), [((112, 96), (112, 112)), ((112, 112), (112, 96)), ((100, 90), (96, 96))])
def test_other_proportions_are_refused(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    message = f"aligned image anna: {size[0]} x {size[1]} pixels (height x width), the model takes {wanted[0]} x"
    with pytest.raises(InvalidValue, match=re.escape(message)):
        resize_aligned(np.zeros((*size, 3), np.uint8), wanted, "anna")


def test_faces_cut_to_other_proportions_stop_training() -> None:
    items = [Item(f"image-{i}", encode_png(np.zeros((112, 96, 3), np.uint8)), "x") for i in range(TRIES)]
    with pytest.raises(TrainingError, match=r"16 images in a row .* 112 x 96 pixels .*; cut it to those proportions"):
        read_batch(EncodedCrops(ImageTable(items), SPEC), np.array([0]), same)


def test_cached_faces_are_the_same_faces(tmp_path: Path) -> None:
    items = tuple(open_items(write_people(tmp_path / "people", 3)))
    encoded = EncodedCrops(ImageTable(items), SPEC)
    cached = CachedCrops(cache_faces(items, SPEC, tmp_path / "cache", aligned=True))
    assert cached.classes == encoded.classes == 3
    wanted, found = (read_batch(source, np.arange(9), same) for source in (encoded, cached))
    np.testing.assert_array_equal(found.crops, wanted.crops)
    np.testing.assert_array_equal(found.people, wanted.people)
    cached.crop(0)[:] = 0  # what training does to a face leaves the cache alone
    np.testing.assert_array_equal(cached.crop(0), encoded.crop(0))
    assert cached.name(4) == encoded.name(4)
