"""Files as people have them: every mode, every defect, one rule or one reason each."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fovea.data import decode
from fovea.data.load import dataset
from fovea.errors import DataError
from tests.data import builders

RED = builders.picture((200, 30, 30), 1, 10, 14)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats(kind: str) -> None:
    assert np.array_equal(decode.read_image(builders.encoded(RED, kind)), RED)


def test_paths_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "a b ü.png").write_bytes(builders.encoded(RED))
    assert np.array_equal(decode.read_image(tmp_path / "a b ü.png"), RED)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        decode.read_image(tmp_path / "missing.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:, :8, 0], upright[:4, :, 1] = 255, 255  # every corner has another colour
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1), 7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, 3),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    assert np.array_equal(decode.read_image(data), upright)
    assert decode.image_header(data, "x")[:2] == (8, 16)


def test_grey_palette_and_bilevel() -> None:
    grey = RED[..., 0]
    assert np.array_equal(decode.read_image(saved(Image.fromarray(grey), "PNG"), 1), grey[..., None])
    assert np.array_equal(decode.read_image(saved(Image.fromarray(grey), "PNG"), 3), np.repeat(grey[..., None], 3, 2))
    palette = Image.fromarray(RED).quantize(16)
    assert np.array_equal(decode.read_image(saved(palette, "PNG")), np.asarray(palette.convert("RGB")))
    bilevel = Image.fromarray(grey > 200)
    assert set(np.unique(decode.read_image(saved(bilevel, "PNG"), 1))) <= {0, 255}


def test_alpha_is_composited_on_white() -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[0, :, 3], rgba[1, 0, 3], rgba[1, 1, 3] = 255, 0, 128
    read = decode.read_image(saved(Image.fromarray(rgba), "PNG"))
    assert read[0, 0].tolist() == [200, 0, 0]
    assert read[1, 0].tolist() == [255, 255, 255]
    assert abs(int(read[1, 1, 1]) - 127) <= 1
    transparent = Image.fromarray(RED).quantize(8)
    read = decode.read_image(saved(transparent, "PNG", transparency=0))
    assert (read[np.asarray(transparent) == 0] == 255).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_one_colour_that_is_seen_through_is_white_too(channels: int) -> None:
    grey = np.array([[0, 9, 200]], np.uint8)
    for image, seen_through in (
        (Image.fromarray(grey), 9),
        (Image.fromarray(np.stack([grey] * 3, axis=-1)), (9, 9, 9)),
        (Image.fromarray(grey.astype(np.uint16) * 257), 9 * 257),
    ):
        read = decode.read_image(saved(image, "PNG", transparency=seen_through), channels)
        assert read[0, :, 0].tolist() == [0, 255, 200]


def test_sixteen_bits_are_rounded_to_eight() -> None:
    deep = np.array([[0, 257, 65535], [128, 129, 32896]], np.uint16)
    read = decode.read_image(saved(Image.fromarray(deep), "PNG"), 1)
    assert read[..., 0].tolist() == [[0, 1, 255], [0, 1, 128]]


def test_cmyk_becomes_rgb() -> None:
    data = saved(Image.fromarray(RED).convert("CMYK"), "TIFF")
    assert np.abs(decode.read_image(data).astype(int) - RED).max() <= 2


def test_float_pixels_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="has F pixels"):
        decode.read_image(saved(Image.fromarray(RED[..., 0].astype(np.float32)), "TIFF"))
    with pytest.raises(DataError, match="32-bit pixels"):
        decode.read_image(saved(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is an empty file"),
        (b"not an image at all", "is not an image of a known format"),
        (builders.encoded(RED, "JPEG")[:-40], "is damaged or cut short"),
        (builders.encoded(RED, "JPEG")[:100], "is damaged or cut short|not an image"),
        (builders.encoded(RED)[:-30], "is damaged or cut short"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image of a known format"),
    ],
)
def test_defects_have_reasons(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode.read_image(data, name="x.jpg")


def test_bombs_are_refused_before_decoding() -> None:
    """A PNG header that promises 30,000 x 30,000 pixels."""
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(DataError, match="pixels; make it smaller first"):
        decode.read_image(data)
    moderate = builders.encoded(np.zeros((8, 8, 3), np.uint8)).replace(
        struct.pack(">II", 8, 8), struct.pack(">II", 9500, 9000), 1
    )
    with pytest.raises(DataError):
        decode.read_image(moderate)


def test_bad_files_are_quarantined_and_counted(tmp_path: Path) -> None:
    builders.class_folders(tmp_path, {"cat": 20, "dog": 20})
    (tmp_path / "cat" / "001.png").write_bytes((tmp_path / "cat" / "000.png").read_bytes()[:60])
    (tmp_path / "dog" / "002.png").write_text("this is a text")
    data = dataset(tmp_path, val_fraction=0)
    assert data.train.listed == 40
    assert len(data.train) == len(data.train.targets) == len(data.train.ids) == 38
    assert {item.path for item in data.quarantined} == {"cat/001.png", "dog/002.png"}
    assert "cat/001.png" not in data.train.ids
    assert data.train.indices.tolist() == [row for row in range(40) if row not in (1, 22)], "numbers of the rest stay"
    assert [item["path"] for item in data.summary()["quarantined"]] == ["cat/001.png", "dog/002.png"]


def test_too_many_bad_files_refuse(tmp_path: Path) -> None:
    builders.class_folders(tmp_path, {"cat": 10, "dog": 10})
    for index in range(2):
        (tmp_path / "cat" / f"{index:03d}.png").write_bytes(b"broken")
    data = dataset(tmp_path, val_fraction=0)
    with pytest.raises(DataError, match=r"2 of 20 images cannot be read, more than max_bad=0.05 allows: cat/000.png"):
        _ = data.train.inputs
    assert len(dataset(tmp_path, val_fraction=0, max_bad=0.2).train) == 18
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"none of 20 images can be read: cat/000.png"):
        dataset(tmp_path)


def test_mixed_sizes_and_one_image(tmp_path: Path) -> None:
    builders.class_folders(tmp_path / "a", {"cat": 3}, size=(40, 60))
    builders.class_folders(tmp_path / "a", {"dog": 3}, size=(64, 33))
    data = dataset(tmp_path / "a", val_fraction=0)
    assert data.input_shape == (32, 32, 3)
    assert any("unequal size are decoded to 32x32" in note for note in data.notes)
    assert dataset(tmp_path / "a", size=(20, 24), val_fraction=0).train.inputs.shape == (6, 20, 24, 3)
    builders.class_folders(tmp_path / "one", {"cat": 1})
    single = dataset(tmp_path / "one")
    assert len(single.train) == 1
    assert single.val is None


def test_grey_files_stay_grey_unless_one_has_colour(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for index in range(50):
            Image.fromarray(np.full((8, 8), index, np.uint8)).save(tmp_path / label / f"{index:02d}.png")
    assert dataset(tmp_path).input_shape == (8, 8, 1)
    (tmp_path / "a" / "01.png").write_bytes(builders.encoded(builders.picture((9, 99, 9), 0, 8, 8)))
    assert dataset(tmp_path).input_shape == (8, 8, 3)


def test_memory_is_bounded(tmp_path: Path) -> None:
    builders.class_folders(tmp_path, {"cat": 10, "dog": 10}, size=(32, 32))
    data = dataset(tmp_path, max_memory=20_000, val_fraction=0)
    with pytest.raises(DataError, match=r"20 images of 32x32x3 take 0.0 GB decoded"):
        _ = data.train.inputs
    packed = builders.packed(tmp_path, tmp_path.parent / f"{tmp_path.name}.tar.gz")
    with pytest.raises(DataError, match="when unpacked in memory; unpack it to a folder first"):
        dataset(packed, max_memory=2000)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_every_format_is_turned_as_its_exif_says(kind: str) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (8, 16, 3)).astype(np.uint8)
    flips = {2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1]}
    flips |= {5: pixels.swapaxes(0, 1), 6: pixels[::-1].swapaxes(0, 1), 8: pixels[:, ::-1].swapaxes(0, 1)}
    flips |= {1: pixels, 7: pixels[::-1, ::-1].swapaxes(0, 1)}
    for orientation, shown in flips.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
        data = buffer.getvalue()
        assert np.array_equal(decode.read_image(data), shown), orientation
        size = decode.image_size(data, "x")
        assert (size.height, size.width) == shown.shape[:2] == decode.image_header(data, "x")[:2]
        assert (size.orientation, size.stored) == (orientation, (8, 16))
