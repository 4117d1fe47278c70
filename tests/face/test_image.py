import io
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from probface.errors import ImageError, ImageTooLarge, InvalidValue, UnreadableImage
from probface.face.image import encode_png, read_image, source_name


def photo(height: int = 30, width: int = 40) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 6, y * 8, 255 - x * 6], axis=2).clip(0, 255).astype(np.uint8)


def encoded(picture: Pillow.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and brings hardly any data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    np.testing.assert_array_equal(read_image(encoded(Pillow.fromarray(photo()), kind)), photo())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_come_back_nearly(kind: str) -> None:
    image = read_image(encoded(Pillow.fromarray(photo()), kind, quality=95))
    assert image.shape == photo().shape
    assert np.abs(image.astype(int) - photo()).mean() < 5


def test_every_kind_of_source_gives_the_same(tmp_path: Path) -> None:
    content = encoded(Pillow.fromarray(photo()))
    path = tmp_path / "gänse 家.png"
    path.write_bytes(content)
    ahead = io.BytesIO(b"skipped" + content)
    ahead.seek(7)
    for source in (path, str(path), content, io.BytesIO(content), ahead, photo()):
        image = read_image(source)
        np.testing.assert_array_equal(image, photo())
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
    assert source_name(path) == str(path)
    assert [source_name(s) for s in (content, io.BytesIO(), photo())] == ["<bytes>", "<file>", "<array>"]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = photo()
    # How a camera stores an upright view under each orientation: the inverse of what the viewer must do.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    content = encoded(Pillow.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, lossless=True, quality=95)
    image = read_image(content)
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).mean() < (5 if kind == "JPEG" else 1e-9)


def exif_block(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF data, written by hand: entries of (tag, type, count, four bytes of value)."""
    directory = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + b"\0\0\0\0"


SIDEWAYS = (0x0112, 3, 1, b"\x06\0\0\0")


@pytest.mark.parametrize(
    "odd",
    [
        (0x0131, 11, 1, struct.pack("<f", 1.5)),  # the software's name is a number
        (0x0100, 2, 4, b"wide"),  # the width is a word
    ],
)
def test_a_photo_with_one_odd_exif_entry_is_read_upright(odd: tuple[int, int, int, bytes]) -> None:
    picture = Pillow.fromarray(np.ascontiguousarray(np.rot90(photo(), 1)))
    exif = exif_block(*sorted([odd, SIDEWAYS]))
    np.testing.assert_array_equal(read_image(encoded(picture, exif=exif)), photo())


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nothing of the kind", exif_block(SIDEWAYS)[:-14], exif_block((0x0112, 3, 1, b"\x63\0\0\0"))]
)
def test_a_photo_with_useless_exif_data_is_read_as_it_is_stored(exif: bytes) -> None:
    image = read_image(encoded(Pillow.fromarray(photo()), "JPEG", quality=95, exif=exif))
    assert np.abs(image.astype(int) - photo()).mean() < 5


def test_grey_of_1_8_and_16_bits_becomes_rgb() -> None:
    grey = photo()[..., 0]
    for picture, expected in (
        (Pillow.fromarray(grey), grey),
        (Pillow.fromarray(grey > 100), np.where(grey > 100, 255, 0)),
        (Pillow.fromarray(grey.astype(np.uint16) * 257), grey),
    ):
        image = read_image(encoded(picture))
        np.testing.assert_array_equal(image, np.repeat(expected[..., None], 3, axis=2))


def test_16_bits_with_the_high_byte_first() -> None:
    grey = photo()[..., 0]
    picture = Pillow.frombytes("I;16B", grey.shape[::-1], (grey.astype(">u2") * 257).astype(">u2").tobytes())
    np.testing.assert_array_equal(read_image(encoded(picture, "TIFF"))[..., 0], grey)


def test_32_bit_integers_that_hold_16_bits() -> None:
    grey = photo()[..., 0]
    content = encoded(Pillow.fromarray(grey.astype(np.int32) * 257), "TIFF")
    np.testing.assert_array_equal(read_image(content)[..., 1], grey)


def test_transparency_is_laid_over_white() -> None:
    rgba = np.dstack([photo(), np.full(photo().shape[:2], 255, np.uint8)])
    rgba[:10, :, 3] = 0
    image = read_image(encoded(Pillow.fromarray(rgba)))
    assert (image[:10] == 255).all()
    np.testing.assert_array_equal(image[10:], photo()[10:])
    grey = read_image(encoded(Pillow.fromarray(rgba).convert("LA")))
    assert (grey[:10] == 255).all()
    assert not (grey[10:] == 255).all()


def test_palettes_with_a_transparent_colour() -> None:
    picture = Pillow.new("P", (4, 4), 1)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((0, 0), 0)
    image = read_image(encoded(picture, transparency=0))
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[1, 1].tolist() == [200, 100, 50]
    partly = read_image(encoded(picture, transparency=bytes([255, 0])))
    assert partly[0, 0].tolist() == [10, 20, 30]
    assert partly[1, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("values", [np.linspace(0, 1, 64), np.linspace(0, 255, 64), np.full(64, np.nan)])
def test_float_pixels_are_refused_not_guessed(values: np.ndarray) -> None:
    content = encoded(Pillow.fromarray(values.astype(np.float32).reshape(8, 8)), "TIFF")
    with pytest.raises(UnreadableImage, match=r"image <bytes>: float pixels.*; save it with 8 or 16 bits"):
        read_image(content)


@pytest.mark.parametrize("transform", [0, 2])
def test_cmyk_and_ycck_as_opencv_decodes_them(transform: int) -> None:
    y, x = np.mgrid[:32, :32]
    inks = [Pillow.fromarray(ink.astype(np.uint8)) for ink in (x * 8, y * 8, 255 - x * 8, (x + y) * 2)]
    content = bytearray(encoded(Pillow.merge("CMYK", inks), "JPEG", quality=95))
    content[content.index(b"Adobe") + 11] = transform  # what the marker says of the channels: 0 CMYK, 2 YCCK
    expected = cv2.imdecode(np.frombuffer(bytes(content), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(read_image(bytes(content)).astype(int) - expected).max() <= 3


def test_cmyk() -> None:
    picture = Pillow.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(read_image(encoded(picture, "JPEG", quality=95)).reshape(-1, 3).mean(0) - [255, 0, 0]).max() < 6


def test_of_a_phones_two_photos_in_one_jpeg_the_first_counts() -> None:
    red, blue = (Pillow.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    content = encoded(red, "MPO", save_all=True, append_images=[blue])
    assert np.abs(read_image(content)[8, 8].astype(int) - [255, 0, 0]).max() <= 2


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    frames = [Pillow.new("RGB", (16, 16), colour) for colour in ("red", "blue", "green")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert np.abs(read_image(content)[8, 8].astype(int) - [255, 0, 0]).max() <= 2


def test_an_array_may_be_grey() -> None:
    np.testing.assert_array_equal(read_image(photo()[..., 0])[..., 2], photo()[..., 0])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((8, 8, 3), np.nan), "float64 with NaN: must be uint8"),
        (np.zeros((8, 8, 3), np.float32), "float32: must be uint8"),
        (np.zeros((8, 8, 3), np.int64), "int64: must be uint8"),
        (np.zeros((8, 8, 4), np.uint8), r"\(8, 8, 4\): must be"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\): must be"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"\(2, 8, 8, 3\): must be"),
    ],
)
def test_arrays_that_are_no_image(array: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        read_image(array)


def test_files_that_are_no_image(tmp_path: Path) -> None:
    whole = encoded(Pillow.fromarray(photo(200, 200)), "JPEG")
    for name, content, message in (
        ("text.jpg", b"this is not an image", "not an image of a known format"),
        ("empty.jpg", b"", "empty"),
        ("cut.jpg", whole[: len(whole) // 2], "damaged or cut off"),
        ("cut.png", encoded(Pillow.fromarray(photo(200, 200)))[:300], "damaged or cut off"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImage, match=f"{name}: .*{message}.*; ") as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UnreadableImage, match="no such file; check the path"):
        read_image(tmp_path / "missing.jpg")
    with pytest.raises(UnreadableImage, match="a folder; name an image in it"):
        read_image(tmp_path)
    with pytest.raises(UnreadableImage, match="cannot be opened"):
        read_image("nul\0byte.jpg")


@pytest.mark.parametrize("name", ["two\nlines.jpg", "tab\there.jpg", "undecodable\udcff.jpg", ""])
def test_odd_names_stay_on_one_printable_line(name: str) -> None:
    with pytest.raises(UnreadableImage) as caught:
        read_image(name)
    assert str(caught.value).startswith(f"image {name!r}: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("source", [None, 5, [1, 2], bytearray(b"x"), Pillow.new("RGB", (4, 4))])
def test_what_is_no_source_is_told(source: object) -> None:
    with pytest.raises(InvalidValue, match=f"of type {type(source).__name__}: must be a path, bytes, a binary file"):
        read_image(source)  # type: ignore[arg-type]


def test_files_opened_as_text_or_closed(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="image <file>: reads as str, not bytes; open it with mode 'rb'"):
        read_image(io.StringIO("text"))  # type: ignore[arg-type]
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(Pillow.fromarray(photo()), "JPEG"))
    with path.open(encoding="utf-8") as text, pytest.raises(UnreadableImage, match=r"cannot be read.*mode 'rb'"):
        read_image(text)  # type: ignore[arg-type]
    with path.open("rb") as file:
        pass
    with pytest.raises(UnreadableImage, match=r"cannot be read.*closed"):
        read_image(file)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "locked.png"
    path.write_bytes(encoded(Pillow.fromarray(photo())))
    path.chmod(0)
    with pytest.raises(UnreadableImage, match=r"locked.png: cannot be opened \(Permission denied\); mend its perm"):
        read_image(path)


def test_threads_leave_the_warning_filters_as_they_were() -> None:
    content = encoded(Pillow.fromarray(photo(300, 400)), "JPEG")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(read_image, [content] * 400))
    assert len(images) == 400
    assert warnings.filters == before


def test_pillows_remarks_stay_inside() -> None:
    content = bytearray(encoded(Pillow.fromarray(photo()), "TIFF"))
    directory = struct.unpack_from("<I", content, 4)[0]
    (entries,) = struct.unpack_from("<H", content, directory)
    struct.pack_into("<HHII", content, directory + 2 + 12 * (entries - 1), 65000, 2, 1000, len(content) + 5)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        Pillow.open(io.BytesIO(content)).load()
    assert heard  # Pillow would speak
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(bytes(content)), photo())


def test_formats_beyond_the_list_are_refused() -> None:
    for kind in ("PPM", "TGA", "ICNS"):
        with pytest.raises(UnreadableImage, match="not an image of a known format"):
            read_image(encoded(Pillow.new("RGB", (32, 32)), kind))


@pytest.mark.parametrize("size", [(50_000, 50_000), (100_000, 401)])
def test_a_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageTooLarge, match=r"shrink it"):
            read_image(png_header(*size))


def test_the_limit_can_be_lowered_and_raised() -> None:
    content = encoded(Pillow.fromarray(photo()))
    with pytest.raises(ImageTooLarge, match="40 x 30 = 1200 pixels, over the limit of 1199; shrink it"):
        read_image(content, max_pixels=1199)
    assert read_image(content, max_pixels=1200).shape == (30, 40, 3)
    with pytest.raises(ImageTooLarge, match="over the limit of 1199"):
        read_image(photo(), max_pixels=1199)


@pytest.mark.parametrize("size", [(12_000, 9_000), (20_000, 10_000)])
def test_a_raised_limit_goes_beyond_pillows_own(size: tuple[int, int]) -> None:
    before = Pillow.MAX_IMAGE_PIXELS
    content = encoded(Pillow.new("1", size))  # one bit a pixel: a large image that costs little
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(content, max_pixels=250_000_000).shape == (size[1], size[0], 3)
    assert before == Pillow.MAX_IMAGE_PIXELS


def test_mutated_files_end_in_an_image_error_or_an_image() -> None:
    rng = np.random.default_rng(0)
    originals = [encoded(Pillow.fromarray(photo()), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")]
    for original in originals:
        for _ in range(60):
            content = bytearray(original)
            for place in rng.integers(0, len(content), rng.integers(1, 8)):
                content[place] = rng.integers(0, 256)
            try:
                image = read_image(bytes(content[: rng.integers(1, len(content) + 1)]))
            except ImageError:
                continue
            assert image.ndim == 3


def test_png_round_trip() -> None:
    np.testing.assert_array_equal(read_image(encode_png(photo())), photo())
