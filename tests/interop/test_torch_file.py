"""PyTorch files read as data: against PyTorch itself, by hand where it no longer writes them, and with hostile ones."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fovea.errors import ModelFileError
from fovea.interop.torch_file import read_torch_file, state_dict

torch = pytest.importorskip("torch")

DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]


def content() -> dict[str, Any]:
    torch.manual_seed(0)
    weight = torch.randn(3, 4, 5)
    return {
        "epoch": 7,
        "name": "net",
        "lr": [0.1, 0.01, None],
        "shape": torch.Size([3, 4]),
        "state_dict": collections.OrderedDict(
            {
                **{f"layer.{name}": (torch.randn(2, 3) * 50).to(getattr(torch, name)) for name in DTYPES},
                "transposed": weight.permute(2, 0, 1),
                "part": weight[1:, ::2, 1],
                "shared": weight,
                "scalar": torch.tensor(3.5),
                "empty": torch.zeros(0, 4),
                "parameter": torch.nn.Parameter(torch.ones(2)),
            }
        ),
    }


def same(mine: Any, theirs: Any) -> None:
    if isinstance(theirs, torch.Tensor):
        expected = theirs.detach().float() if theirs.dtype == torch.bfloat16 else theirs.detach()
        assert mine.dtype == expected.numpy().dtype
        assert mine.flags.c_contiguous
        assert mine.flags.owndata
        np.testing.assert_array_equal(mine, expected.numpy())
    elif isinstance(theirs, dict):
        assert list(mine) == list(theirs)
        for key in theirs:
            same(mine[key], theirs[key])
    else:
        assert mine == (tuple(theirs) if isinstance(theirs, torch.Size) else theirs)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_pytorch(tmp_path: Path, zipped: bool) -> None:
    stored = content()
    torch.save(stored, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    read = read_torch_file(tmp_path / "net.pth")
    same(read, stored)
    assert list(state_dict("net.pth", read)) == list(stored["state_dict"])


def test_numpy_numbers_and_namespaces(tmp_path: Path) -> None:
    import argparse

    stored = {"best": np.float64(0.25), "epoch": np.int64(3), "args": argparse.Namespace(lr=0.1, arch="resnet20")}
    torch.save(stored, tmp_path / "net.pt")
    assert read_torch_file(tmp_path / "net.pt") == {
        "best": 0.25,
        "epoch": 3,
        "args": {"lr": 0.1, "arch": "resnet20"},
    }


class Named:
    """Pickles as a name without being imported."""

    def __init__(self, identity: Any) -> None:
        self.identity = identity


def dump(value: Any) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return obj.identity if isinstance(obj, Named) else None

    out = io.BytesIO()
    Pickler(out, 2).dump(value)
    return out.getvalue()


def test_the_oldest_format(tmp_path: Path) -> None:
    numbers = np.arange(12, dtype="<f4")
    storages = dump(1) + dump((5, "cpu", torch.FloatStorage)) + struct.pack("<q", 12) + numbers.tobytes() + dump([])
    sizes = struct.pack("<i4x", 2) + struct.pack("<5q", 2, 3, 4, 1, 1)  # 2x3 with steps 4 and 1 from element 1
    parts = {
        "sys_info": dump({"protocol_version": 1000, "little_endian": True}),
        "storages": storages,
        "tensors": dump(1) + dump((9, 5, torch.FloatTensor)) + sizes,
        "pickle": dump({"weight": Named("9")}),
    }
    with tarfile.open(tmp_path / "net.t7", "w") as archive:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    read = read_torch_file(tmp_path / "net.t7")
    np.testing.assert_array_equal(read["weight"], [[1, 2, 3], [5, 6, 7]])


class Attack:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> Any:
        return self.parts


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("attack", [Attack(os.system, "touch owned"), Attack(eval, "1"), Attack(getattr, 1, "real")])
def test_a_callable_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool, attack: Attack
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": attack}, "evil.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelFileError, match=r"which would have to be run; save model.state_dict\(\)"):
        read_torch_file("evil.pth")
    assert os.listdir() == ["evil.pth"]


def test_a_whole_model_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(ModelFileError, match=r"torch.nn.modules.linear.Linear"):
        read_torch_file(tmp_path / "model.pth")


def write_zip(path: Path, data: bytes, **entries: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", data)
        for name, blob in entries.items():
            archive.writestr(f"net/data/{name}", blob)


STORAGE = b"(\x8c\x07storagectorch\nFloatStorage\n\x8c\x010\x8c\x03cpuK\x04tQ"


def tensor_pickle(*numbers: str) -> bytes:
    """A pickle of one tensor whose offset, sizes and strides are given as texts of integers."""
    offset, sizes, strides = numbers
    body = "".join(f"I{n}\n" for n in sizes.split()), "".join(f"I{n}\n" for n in strides.split())
    text = f"I{offset}\n({body[0]}t({body[1]}t"
    return b"\x80\x04ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + text.encode() + b"\x89NtR."


def test_tensor_inside_its_storage(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.pt", tensor_pickle("1", "3", "1"), **{"0": np.arange(4, dtype="f4").tobytes()})
    np.testing.assert_array_equal(read_torch_file(tmp_path / "a.pt"), [1, 2, 3])


@pytest.mark.parametrize(
    "numbers",
    [
        ("0", "5", "1"),  # behind the end
        ("2", "3", "1"),
        ("0", "2 2", "4 1"),
        ("-1", "2", "1"),
        ("0", "2", "-1"),
        ("0", "1000000000", "0"),  # one element, a billion times
        ("0", "2 2", "1"),
        ("99999999999999999999", "1", "1"),
    ],
)
def test_tensors_outside_their_storage(tmp_path: Path, numbers: tuple[str, str, str]) -> None:
    write_zip(tmp_path / "a.pt", tensor_pickle(*numbers), **{"0": bytes(16)})
    with pytest.raises(ModelFileError, match="tensor"):
        read_torch_file(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04]r\xff\xff\xff\xff.",  # memo index 4 G: a list so long in other readers
        b"\x80\x04" + b")" + b"\x85" * 100_000 + b"}" + b"h\x00.",  # memo that was never set
        b"\x80\x04}" + b")" + b"\x85" * 1_000_000 + b"K\x01s.",  # a key nested a million times
        b"\x80\x04X\xff\xff\xff\x7fabc.",  # a text longer than the file
        b"\x80\x04cbuiltins\nexec\n.",
        b"\x80\x04\x82\x01.",  # extension registry
        b"\x80\x04(i os\nsystem\n.",
        b"\x80\x04.",
        b"",
        b"\x80\x04]aa.",
        b"\x80\x04N(]R.",
        b"\x80\x04ctorch\nFloatStorage\n)R.",
    ],
)
def test_damaged_and_hostile_pickles(tmp_path: Path, data: bytes) -> None:
    write_zip(tmp_path / "a.pt", data)
    if data.endswith(b"r\xff\xff\xff\xff."):
        assert read_torch_file(tmp_path / "a.pt") == []
        return
    with pytest.raises(ModelFileError) as caught:
        read_torch_file(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_every_truncation_and_many_mutations_end_in_one_line(tmp_path: Path, zipped: bool) -> None:
    torch.save(
        {"weight": torch.arange(4.0), "bias": torch.ones(1)},
        tmp_path / "net.pth",
        _use_new_zipfile_serialization=zipped,
    )
    whole = (tmp_path / "net.pth").read_bytes()
    rng = np.random.default_rng(0)
    broken = [whole[:length] for length in range(0, len(whole), 7)]
    for _ in range(300):
        mutated = bytearray(whole)
        for position in rng.integers(0, len(whole), 3):
            mutated[position] = rng.integers(256)
        broken.append(bytes(mutated))
    messages = []
    for data in broken:
        (tmp_path / "b.pth").write_bytes(data)
        try:
            read_torch_file(tmp_path / "b.pth")
        except ModelFileError as error:
            messages.append(str(error))
    assert len(messages) > len(whole) // 7  # every truncation at least
    assert not any("\n" in message for message in messages)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello\n" * 100)
    with pytest.raises(ModelFileError, match=r"expected a file that torch.save wrote"):
        read_torch_file(tmp_path / "text.pth")
    with pytest.raises(ModelFileError, match="No such file"):
        read_torch_file(tmp_path / "absent.pth")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(ModelFileError, match="not PyTorch's"):
        read_torch_file(tmp_path / "other.zip")


def test_where_the_weights_are() -> None:
    weights = {"a": np.ones(1), "b": np.ones(2)}
    for stored in (
        weights,
        {"state_dict": weights, "epoch": 1},
        {"model": weights, "optimizer": {"x": 1}},
        {"a": np.ones(1)},
    ):
        assert set(state_dict("f", stored)) <= {"a", "b"}
    with pytest.raises(ModelFileError, match=r"got a dictionary with 'epoch'; save model.state_dict\(\)"):
        state_dict("f", {"epoch": 1})
    with pytest.raises(ModelFileError, match="got no dictionary"):
        state_dict("f", [1])
