"""The model file: everything comes back, hostile files get one clear error, an old file survives a failed write."""

from __future__ import annotations

import json
import os
import struct

import numpy as np
import pytest
from safetensors import SafetensorError

import fovea
from fovea.errors import FoveaError, ModelFileError
from fovea.graph.serialize import graph_from_dict, read_tensors, remove_leftovers, write_tensors


def small_model(seed=0) -> fovea.Model:
    net = fovea.Sequential(
        {"stem": fovea.Conv(6, 3, stride=2, padding="same", use_bias=False)},
        fovea.BatchNorm(),
        fovea.ReLU(),
        fovea.Residual(fovea.Sequential(fovea.Conv(6, 3, padding=((1, 1), (0, 2))), fovea.GroupNorm(3))),
        fovea.Pad(1, mode="reflect"),
        fovea.Slice((1,), (None,), (1,)),
        fovea.MaxPool(2),
        fovea.GlobalAvgPool(),
        fovea.Dropout(0.2),
        {"head": fovea.Dense(3)},
    )
    record = fovea.Preprocessing(size=(16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
    return fovea.Model(net, (16, 16, 3), ["cat", "dog", "größe"], seed=seed, preprocessing=record, name="small")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = small_model()
    model.provenance["metrics"] = {"accuracy": 0.5}
    return model, model.save(tmp_path_factory.mktemp("model") / "m.safetensors")


def test_everything_comes_back(saved):
    model, path = saved
    loaded = fovea.load(path)
    assert loaded.classes == model.classes
    assert loaded.preprocessing == model.preprocessing
    assert loaded.task == model.task
    assert loaded.name == "small"
    assert loaded.provenance == {"metrics": {"accuracy": 0.5}}
    assert loaded.graph.nodes == model.graph.nodes
    assert loaded.graph.outputs == model.graph.outputs
    for path_, array in model.store.tensors().items():
        assert (loaded.store.tensors()[path_] == array).all(), path_
    x = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype(np.float32)
    assert (loaded(x) == model(x)).all()


def test_a_folder_that_holds_one_loads_too(tmp_path):
    small_model().save(tmp_path / "model.safetensors")
    assert fovea.load(tmp_path).name == "small"


def test_loading_allocates_nothing_that_the_file_does_not_hold(saved, tmp_path):
    _, path = saved
    tensors, metadata = read_tensors(path)
    metadata["classes"] = None
    for size, text in ((1 << 30, r"expected head\.weight with shape"), (1 << 40, "expected sizes that a machine can")):
        for node in metadata["graph"]["nodes"]:
            if node["name"] == "head":
                node["op"]["out_channels"] = size
        write_tensors(tmp_path / "huge.safetensors", tensors, metadata)
        with pytest.raises(ModelFileError, match=text):
            fovea.load(tmp_path / "huge.safetensors")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m.update(format=99), "expected a model file of format 1"),
        (lambda m: m["graph"]["nodes"][1]["op"].update(kind="exec"), "expected a known kind of op, got 'exec'"),
        (lambda m: m["graph"]["nodes"][1]["op"].update(code="x"), "unknown field"),
        (
            lambda m: m["graph"]["nodes"][1].update(inputs=[["nowhere", 0]]),
            "expected the name of a node, got 'nowhere'",
        ),
        (lambda m: m["graph"]["nodes"][1].update(inputs=[["head", 0]]), "expected the name of a node, got 'head'"),
        (lambda m: m["graph"].update(outputs=[["head", 7]]), "expected an output index below 1"),
        (lambda m: m["graph"].update(nodes=None), "expected a list"),
        (lambda m: m.update(classes=["a"]), "expected 3 class names"),
        (lambda m: m.update(preprocessing={"mean": "x"}), "the file is damaged"),
        (lambda m: m.update(task={"kind": "spell"}), "expected one of classification, detection, .*got 'spell'"),
        (lambda m: m.update(graph=[[[]]]), "the file is damaged"),
    ],
)
def test_wrong_metadata_gets_one_line(saved, tmp_path, change, text):
    tensors, metadata = read_tensors(saved[1])
    change(metadata)
    write_tensors(tmp_path / "wrong.safetensors", tensors, metadata)
    with pytest.raises(ModelFileError, match=text) as caught:
        fovea.load(tmp_path / "wrong.safetensors")
    assert "\n" not in str(caught.value)


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "header.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    (tmp_path / "deep.safetensors").write_bytes(struct.pack("<Q", 20_000) + b"[" * 20_000)
    for name in ("text", "empty", "header", "deep", "missing"):
        with pytest.raises(ModelFileError):
            fovea.load(tmp_path / f"{name}.safetensors")


def mutate(data: bytes, rng: np.random.Generator, header: int) -> bytes:
    """One of: flipped bytes (mostly in the header), a cut, a doubled or removed piece, a changed number or word."""
    changed = bytearray(data)
    choice = rng.integers(0, 6)
    where = int(rng.integers(0, header if rng.random() < 0.8 else len(data)))
    if choice == 0:
        for _ in range(int(rng.integers(1, 8))):
            changed[int(rng.integers(0, header))] = int(rng.integers(0, 256))
    elif choice == 1:
        del changed[where:]
    elif choice == 2:
        changed[where:where] = changed[where : where + int(rng.integers(1, 200))]
    elif choice == 3:
        del changed[where : where + int(rng.integers(1, 200))]
    elif choice == 4:
        changed[where] ^= 1 << int(rng.integers(0, 8))
    else:
        digits = [i for i in range(8, header) if 48 <= changed[i] <= 57]
        for i in rng.choice(digits, 3):
            changed[int(i)] = int(rng.integers(48, 58))
    if rng.random() < 0.7:  # keep the header length honest, so that mutations reach the JSON
        size = header - 8 + len(changed) - len(data) if choice in (2, 3) and where < header else header - 8
        changed[:8] = struct.pack("<Q", max(0, size))
    return bytes(changed)


def fuzz(path, tmp_path, count: int, seed: int) -> dict[str, int]:
    data = path.read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    json.loads(data[8:header])
    rng = np.random.default_rng(seed)
    target, outcome = tmp_path / "mutated.safetensors", {"refused": 0, "loaded": 0}
    for number in range(count):
        target.write_bytes(mutate(data, rng, header))
        message = refusal(target)
        outcome["loaded" if message is None else "refused"] += 1
        assert message is None or ("\n" not in message and len(message) < 800), (seed, number, message)
    return outcome


def refusal(path) -> str | None:
    try:
        fovea.load(path)
    except FoveaError as error:
        return str(error)
    return None


def test_mutated_files_give_clear_errors_only(saved, tmp_path):
    outcome = fuzz(saved[1], tmp_path, 2_000, seed=7)
    assert outcome["refused"] > 1_000, outcome


@pytest.mark.slow
def test_many_mutated_files_give_clear_errors_only(saved, tmp_path):
    for seed in range(20):
        fuzz(saved[1], tmp_path, 5_000, seed)


def test_a_failed_write_leaves_the_old_file(saved, tmp_path, monkeypatch):
    path = small_model().save(tmp_path / "m.safetensors")
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(ModelFileError, match="expected to write the file, got: no space"):
        small_model(seed=1).save(path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["m.safetensors"]


def test_provenance_may_hold_numbers_of_numpy_and_nothing_that_json_lacks(tmp_path):
    model = small_model()
    model.provenance = {"accuracy": np.float32(0.5), "counts": np.arange(2), "path": tmp_path}
    path = model.save(tmp_path / "m.safetensors")
    assert fovea.load(path).provenance == {"accuracy": 0.5, "counts": [0, 1], "path": str(tmp_path)}
    model.provenance = {"who": object()}
    with pytest.raises(ModelFileError, match="expected metadata that JSON can hold, got: a object"):
        model.save(path)
    assert fovea.load(path).provenance["accuracy"] == 0.5


def test_a_path_that_takes_no_file_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file" / "m.safetensors"):
        with pytest.raises(ModelFileError, match="expected to write the file, got: "):
            small_model().save(path)


def test_unknown_references_in_a_large_file_are_refused_in_no_time():
    names = [f"node{'x' * 400}{index}" for index in range(20_000)]
    nodes = [{"name": name, "op": {"kind": "input", "shape": [1]}, "inputs": []} for name in names]
    with pytest.raises(ModelFileError, match="expected the name of a node, got 'node"):
        graph_from_dict("file", {"nodes": nodes, "inputs": names[:1], "outputs": [["node" + "x" * 450, 0]]})


def test_files_get_the_permissions_that_the_user_wants_and_leftovers_go(tmp_path):
    mask = os.umask(0o027)
    try:
        path = small_model().save(tmp_path / "m.safetensors")
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o640
    (tmp_path / ".m.safetensors.1a2b.tmp").write_bytes(b"half a file")
    (tmp_path / ".other.safetensors.1a2b.tmp").write_bytes(b"somebody else's")
    remove_leftovers(path)
    assert sorted(item.name for item in tmp_path.iterdir()) == [".other.safetensors.1a2b.tmp", "m.safetensors"]


def test_an_input_that_the_graph_does_not_list_is_refused():
    nodes = [{"name": name, "op": {"kind": "input", "shape": [2]}, "inputs": []} for name in ("a", "b")]
    nodes.append({"name": "sum", "op": {"kind": "add"}, "inputs": [["a", 0], ["b", 0]]})
    assert graph_from_dict("file", {"nodes": nodes, "inputs": ["a", "b"], "outputs": [["sum", 0]]}).inputs == ("a", "b")
    for inputs in (["a"], ["a", "b", "b"]):
        with pytest.raises(ModelFileError, match="expected every Input among the graph's inputs once"):
            graph_from_dict("file", {"nodes": nodes, "inputs": inputs, "outputs": [["sum", 0]]})


def test_a_full_disk_is_one_line(saved, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.numpy.save_file", fail)
    with pytest.raises(ModelFileError, match="expected to write the file, got: I/O error: No space left"):
        saved[0].save(tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []
