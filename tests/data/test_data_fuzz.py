"""Damaged and hostile files get a DataError, never another exception, never memory that the file merely promises."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fovea.data import decode, npy, wav
from fovea.data.layouts.idx import read_idx
from fovea.data.load import dataset
from fovea.data.safe_pickle import read_pickle
from fovea.data.tree import ArchiveTree
from fovea.errors import DataError
from tests.data import builders

RNG = np.random.default_rng(17)
LIMIT = 1 << 24


def npz_bytes() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=RNG.integers(0, 256, (5, 8, 8), dtype=np.uint8), labels=np.arange(5))
    return buffer.getvalue()


def npy_bytes() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, RNG.normal(size=(3, 4, 5)).astype(np.float32))
    return buffer.getvalue()


def cifar_pickle(protocol: int) -> bytes:
    images, labels = builders.cifar_batch(3, 0)
    return pickle.dumps({b"data": builders.planes(images)[:, :60], b"labels": labels}, protocol=protocol)


def read_npz(data: bytes) -> None:
    file = npy.NpzFile(data, "x.npz", LIMIT)
    for name in file.names:
        file.header(name)
        file.read(name)


def gif_bytes() -> bytes:
    from PIL import Image

    frames = [Image.fromarray(builders.picture((10 * n, 90, 30), n)) for n in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def read_all(archive: Path) -> None:
    tree = ArchiveTree(archive, LIMIT)
    for path in tree:
        tree.read(path)


def one_line_or_none(action: Callable[[], object]) -> str | None:
    """The message of the DataError that the action raises; any other exception goes through."""
    message = None
    try:
        action()
    except DataError as error:
        message = str(error)
    assert message is None or "\n" not in message
    return message


READERS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "idx": (builders.idx(RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)), lambda data: read_idx(data, "x", LIMIT)),
    "idx.gz": (gzip.compress(builders.idx(np.arange(90, dtype=np.uint8))), lambda data: read_idx(data, "x", LIMIT)),
    "wav": (builders.wav(builders.tone(1, 1, 90)), lambda data: wav.read_wav(data, "x")),
    "npy": (npy_bytes(), lambda data: npy.read_npy(data, "x")),
    "npz": (npz_bytes(), read_npz),
    "pickle 2": (cifar_pickle(2), lambda data: read_pickle(data, "x")),
    "pickle 4": (cifar_pickle(4), lambda data: read_pickle(data, "x")),
    "pickle 0": (pickle.dumps({"labels": [1, 2], "x": (1.5, None, "text")}, 0), lambda data: read_pickle(data, "x")),
    "png": (builders.encoded(builders.picture((9, 99, 200), 1)), lambda data: decode.read_image(data)),
    "jpeg": (builders.encoded(builders.picture((9, 99, 200), 1), "JPEG"), lambda data: decode.read_image(data)),
    "gif": (gif_bytes(), lambda data: decode.read_frames(data)),
    "tiff": (builders.encoded(builders.picture((9, 99, 200), 1), "TIFF"), lambda data: decode.read_image(data)),
}


@pytest.mark.parametrize("name", READERS)
def test_mutations(name: str) -> None:
    whole, read = READERS[name]
    read(whole)
    survivors = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 6))):
            place = int(rng.integers(0, min(len(data), 400)))  # headers are where the trouble is
            match rng.integers(0, 4):
                case 0:
                    data[place] = int(rng.integers(0, 256))
                case 1:
                    data[place : place + 4] = b"\xff\xff\xff\x7f"
                case 2:
                    del data[place : place + int(rng.integers(1, 9))]
                case _:
                    del data[int(rng.integers(0, len(data))) :]
            if not data:
                break
        survivors += one_line_or_none(lambda: read(bytes(data))) is None  # noqa: B023 - called at once
    assert survivors < 150, "mutations were seen"


def test_damage_in_what_a_zip_file_packed_by_lzma(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a/0.png", RNG.bytes(400))
        archive.writestr("x.npy", npy_bytes())
    damaged = bytearray(packed.getvalue())
    for name in (b"a/0.png", b"x.npy"):
        start = damaged.index(name) + len(name) + 20
        damaged[start : start + 30] = b"\xff" * 30
    (tmp_path / "a.zip").write_bytes(damaged)
    tree = ArchiveTree(tmp_path / "a.zip", LIMIT)
    assert "cannot be read from a.zip" in (one_line_or_none(lambda: tree.read("a/0.png")) or "")
    assert "is damaged" in (one_line_or_none(lambda: npy.NpzFile(bytes(damaged), "x", LIMIT).read("x")) or "")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_mutated_archives(tmp_path: Path, name: str) -> None:
    builders.class_folders(tmp_path / "d", {"cat": 2, "dog": 2})
    whole = builders.packed(tmp_path / "d", tmp_path / name).read_bytes()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        data = bytearray(whole)
        for _ in range(4):
            data[int(rng.integers(0, len(data)))] = int(rng.integers(0, 256))
        if seed % 3 == 0:
            del data[int(rng.integers(0, len(data))) :]
        (tmp_path / name).write_bytes(bytes(data))
        one_line_or_none(lambda: read_all(tmp_path / name))


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'echo owned'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04echo\x85R.",
        b"c__builtin__\neval\n(S'1+1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
    ],
)
def test_pickles_that_call_something_are_refused_by_name(program: bytes) -> None:
    with pytest.raises(DataError, match=r"is a pickle that names '(os.system|__builtin__.eval|numpy.load)'"):
        read_pickle(program, "data_batch_1")


class Opens:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_in_a_pickle_is_executed(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "cifar").mkdir()
    (tmp_path / "cifar" / "data_batch_1").write_bytes(pickle.dumps(Opens(tmp_path / "owned"), protocol))
    with pytest.raises(DataError, match=r"is a pickle that names"):
        dataset(tmp_path / "cifar")
    assert not (tmp_path / "owned").exists()


def test_pickles_that_grow_or_loop() -> None:
    """Lists of lists that share their parts: 2**40 leaves when walked, 41 lists in fact."""
    nested: list[object] = [1]
    for _ in range(40):
        nested = [nested, nested]
    assert len(read_pickle(pickle.dumps(nested), "x")) == 2
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(DataError, match=r"nested more than 100 deep"):
        read_pickle(pickle.dumps(loop), "x")


def test_pickles_of_plain_data_are_read() -> None:
    value = {
        "a": [1, -5, 2**70, 1.5, True, None],
        b"b": ("x", b"y", ()),
        "c": np.arange(6, dtype=">i4").reshape(2, 3),
        "d": {"e": np.asfortranarray(np.ones((2, 2)))},
    }
    for protocol in range(6):
        read = read_pickle(pickle.dumps(value, protocol), "x")
        assert read["a"] == value["a"]
        assert read[b"b"] == value[b"b"]
        assert np.array_equal(read["c"], value["c"])
        assert np.array_equal(read["d"]["e"], np.ones((2, 2)))


def test_promises_are_checked_before_memory_is_taken() -> None:
    huge = struct.pack(">BBBBIII", 0, 0, 8, 3, 1 << 31, 1 << 20, 1 << 20)
    with pytest.raises(DataError, match=r"promises .* GB"):
        read_idx(huge, "x", LIMIT)
    with pytest.raises(DataError, match=r"promises .* GB"):
        read_idx(gzip.compress(huge), "x", LIMIT)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": (1 << 40,), "fortran_order": False, "descr": "<f8"})
    with pytest.raises(DataError, match=r"promises 8796093022208 bytes"):
        npy.read_npy(header.getvalue(), "x")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("images.npy", bytes(LIMIT + 1))
    with pytest.raises(DataError, match=r"more than the 0.0 GB allowed"):
        npy.NpzFile(archive.getvalue(), "x", LIMIT).read("images")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00\x00\x08", "is not an IDX file"),
        (b"\x00\x00\x07\x01\x00\x00\x00\x01x", "is not an IDX file"),
        (b"\x00\x00\x08\x02\x00\x00\x00\x01", "cut short inside its header"),
        (builders.idx(np.zeros(9, np.uint8))[:-1], "promises 9 bytes for shape (9,), only 8 are there"),
        (builders.idx(np.zeros(9, np.uint8)) + b"x", "promises 9 bytes for shape (9,), more are there"),
        (gzip.compress(builders.idx(np.zeros(9, np.uint8)))[:-12], "is not a whole gzip file"),
    ],
)
def test_idx_errors_say_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(DataError) as error:
        read_idx(data, "train-images")
    assert message in str(error.value)


def test_idx_pairs_must_fit(tmp_path: Path) -> None:
    builders.idx_folder(tmp_path, packed_too=False)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(builders.idx(np.zeros(3, np.uint8)))
    with pytest.raises(DataError, match=r"has 3 labels for 40 images"):
        dataset(tmp_path)
    labels.unlink()
    with pytest.raises(DataError, match=r"needs its labels file beside it"):
        dataset(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "a dict with data and labels is expected"),
        ({"labels": [1]}, "data must be uint8 of shape"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, "2 integer labels are expected"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [-1]}, "1 integer labels are expected"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [11]}, "has labels from 11 to 11, 10 classes"),
    ],
)
def test_cifar_pickles_that_are_none(tmp_path: Path, content: object, message: str) -> None:
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=message):
        dataset(tmp_path)


def test_cifar_binaries_of_a_wrong_length(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3072))
    with pytest.raises(DataError, match=r"has 3072 bytes, not a multiple of 3073"):
        dataset(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is damaged or cut short"),
        (b"RIFF\x00\x00\x00\x00WAVE", "is not a PCM wav file|damaged"),
        (builders.wav(builders.tone(0, 0, 50))[:-20], "is damaged or cut short"),
        (
            builders.wav(builders.tone(0, 0, 50)).replace(b"\x01\x00\x01\x00", b"\x03\x00\x01\x00", 1),
            "save it as 8, 16, 24 or 32 bit PCM",
        ),
    ],
)
def test_wav_errors(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        wav.read_wav(data, "x.wav")
