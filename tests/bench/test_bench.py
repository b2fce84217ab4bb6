"""The bench measures what it says: verified sides, rows, wrong words. Nothing here looks at how long anything takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import fovea
from fovea.bench import inference, machine, rows, run, timing
from fovea.bench.machine import Watch
from fovea.bench.networks import NAMES, create, example
from fovea.bench.roofline import roofline_svg
from fovea.bench.rows import Row
from fovea.cli import main
from fovea.errors import ConfigError, EngineError
from fovea.ops.loss import SoftmaxCrossEntropy

SHORT = run.Settings(rounds=1, limit=0.0, profile_runs=1, peak_seconds=0.001)
KEYS = {"network", "batch", "mode", "precision", "ours_ms", "peer", "peer_ms", "ratio"}


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = fovea.get_threads()
    yield
    fovea.set_threads(before)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No peer is installed."""
    monkeypatch.setattr(run, "installed", dict)


def session(say: Callable[[str], None] = lambda _: None) -> run.Bench:
    """A bench that hurries."""
    return run.Bench(SHORT, 1, say)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("mode", ["train", "inference"])
def test_without_peers_our_side_is_measured_alone(mode: str) -> None:
    bench = session()
    assert "not installed: torch, onnxruntime, openvino" in "\n".join(bench.introduction())
    found, failures = bench.run(run.measurements(["lenet5"], mode, "fp32", 2), with_layers=True)
    assert not failures
    (row,) = found
    assert (row.peer, row.peer_ms, row.ratio, row.peers, row.errors) == (None, None, None, {}, {})
    assert row.ours_ms > 0
    assert row.runs >= 2
    passes = {entry["pass"] for entry in row.layers}
    assert ("backward weight" in passes) == (mode == "train")
    assert ("update" in passes) == (mode == "train")
    assert row.machine["threads"] == 1
    work = sum(entry["operations"] for entry in row.layers)
    assert row.work["gflops"] == pytest.approx(work / row.ours_ms * 1e-6)


def test_a_training_step_is_verified_and_compared_with_pytorch() -> None:
    pytest.importorskip("torch")
    said: list[str] = []
    (row,), failures = session(said.append).run(run.measurements(["lenet5"], "train", "fp32", 4), with_layers=True)
    assert not failures
    assert row.peer == "torch"
    assert row.peer_ms is not None
    assert row.ratio == pytest.approx(row.peer_ms / row.ours_ms)
    assert set(row.errors) == {"loss", "gradient", "weight", "next loss"}
    assert "lenet5, batch 4, train, fp32: verified" in said[-1]
    beside = {entry["pass"] for entry in row.layers if "torch_ms" in entry}
    assert beside == {"forward", "backward data", "backward weight"}


def test_an_inference_is_verified_against_every_peer() -> None:
    for name in machine.PEERS:
        pytest.importorskip(name)
    (row,), failures = session().run(run.measurements(["resnet20"], "inference", "fp32", 2))
    assert not failures
    assert set(row.peers) == {"onnxruntime", "openvino"}
    assert row.peer_ms == min(row.peers.values())
    assert max(row.errors.values()) < 1e-4


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_lower_precisions_are_compared_with_our_own_float32(precision: str) -> None:
    (row,), failures = session().run(run.measurements(["lenet5"], "inference", precision, 2))
    assert not failures
    assert row.peer == "fovea fp32"
    assert 0 < max(row.errors.values()) < 0.1


def test_int8_is_compared_with_what_others_make_of_the_same_network() -> None:
    for name in (*machine.PEERS, "onnx"):
        pytest.importorskip(name)
    (row,), failures = session().run(run.measurements(["lenet5"], "inference", "int8", 2))
    assert not failures
    assert {"onnxruntime", "fovea fp32"} <= set(row.peers)
    assert ("openvino" in row.peers) == (row.errors["openvino"] <= inference.TOLERANCE["int8"])
    assert set(row.errors) == {"ours", "onnxruntime", "openvino"}


def test_training_in_bf16_is_held_to_autocast() -> None:
    pytest.importorskip("torch")
    (row,), failures = session().run(run.measurements(["lenet5"], "train", "bf16", 4))
    assert not failures
    assert row.peer == "torch"
    assert row.errors["gradient"] <= 1
    assert row.errors["gradient distance"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_twin_in_pytorch_computes_the_same(name: str) -> None:
    torch = pytest.importorskip("torch")
    from fovea.bench.torch_side import give_statistics, twin
    from fovea.bench.twins import buffer_pairs

    size = (32, 32, 3) if name in ("resnet18", "mobilenetv2") else None
    model = create(name, size)
    inference.random_norms(model)
    give_statistics(name, model)
    network = twin(name, model)
    for path, theirs in buffer_pairs(model.graph, network):
        theirs.copy_(torch.from_numpy(model.buffers()[path]))
    x, _ = example(model, 2)
    with torch.no_grad():
        theirs = network(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).numpy()
    np.testing.assert_allclose(model(x), theirs, atol=1e-4 * np.abs(theirs).max())


def test_sides_that_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(fovea, "SoftmaxCrossEntropy", lambda: SoftmaxCrossEntropy(label_smoothing=0.1))
    found, failures = session().run(run.measurements(["lenet5"], "train", "fp32", 4))
    assert not found
    (failure,) = failures
    assert isinstance(failure, EngineError)
    assert "expected the loss of lenet5 in fp32 within 1e-05 of PyTorch's" in str(failure)


def test_logits_that_differ_are_an_error() -> None:
    steps = {"ours": lambda: np.ones((1, 3)), "other": lambda: np.ones((1, 3)) * [1, 1, 1.001]}
    with pytest.raises(EngineError, match=r"within 0\.0001 of the largest of ours"):
        inference.verify("lenet5", "fp32", steps)


def test_sides_take_turns() -> None:
    order: list[str] = []
    times = timing.in_turn([lambda: order.append("a"), lambda: order.append("b")], rounds=2, most=3, limit=0.0)
    assert "".join(order) == "aabb" + "aaaabbbb" * 2
    assert [len(each) for each in times] == [6, 6]


def test_what_is_measured() -> None:
    everything = run.measurements()
    assert {one.network for one in everything} == set(NAMES)
    assert {(one.mode, one.batch) for one in everything if one.network == "resnet18"} == {
        ("train", 16), ("inference", 1), ("inference", 32),
    }  # fmt: skip
    assert all(one.mode == "inference" for one in everything if one.precision == "int8")
    assert [one.batch for one in run.measurements(["lenet5"], "inference", "fp32", 7)] == [7]


def fake_row(**changes: object) -> Row:
    """A row as measuring gives it, with invented numbers."""
    values: dict[str, object] = {
        "network": "lenet5", "batch": 128, "mode": "train", "precision": "fp32", "ours_ms": 2.0, "peer": "torch",
        "peer_ms": 3.0, "ratio": 1.5, "runs": 20, "peers": {"torch": 3.0}, "errors": {},
        "work": rows.work_of(2e9, 4e7, 2.0, 2000.0, 40.0), "machine": {"cpu": "CPU", "threads": 2, "peak_fp32": 2000.0},
    }  # fmt: skip
    return Row(**{**values, **changes})  # type: ignore[arg-type]  # names are checked by the class


def test_shares_of_the_machine() -> None:
    work = fake_row().work
    assert work == pytest.approx({"gflops": 1000.0, "peak_share": 0.5, "gbytes_per_s": 20.0, "bandwidth_share": 0.5})


def test_tables(tmp_path: Path) -> None:
    alone = fake_row(network="resnet20", peer=None, peer_ms=None, ratio=None, peers={})
    written = [fake_row(), fake_row(ratio=6.0), alone]
    rows.write_rows(tmp_path / "rows.json", written)
    assert rows.read_rows(tmp_path / "rows.json") == written
    text, page = rows.table(written), rows.markdown(written)
    assert "geometric mean of the ratios, train fp32: 3.00" in text
    assert "| lenet5 | 128 | 2.000 | 3.000 | 1.50 | 50 | 20 |" in page
    assert "| resnet20 | 128 | 2.000 | - | - | 50 | 20 |" in page
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(ConfigError, match="expected rows that `fovea bench --json` wrote"):
        rows.read_rows(tmp_path / "other.json")


def test_a_machine_that_changed_its_speed_is_told() -> None:
    watch = Watch(0.001, 0.001)
    watch._looks = [{"fma": 200.0, "steps": 20.0, "gbytes": 30.0}, {"fma": 199.0, "steps": 10.0, "gbytes": 29.0}]
    (warning,) = watch.warnings()
    assert "simple instructions made 10.0 to 20.0" in warning


@pytest.mark.usefixtures("alone")
def test_other_programs_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (3.0, 0.0, 0.0))
    assert "other programs are running" in "\n".join(session().introduction())
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (0.1, 0.0, 0.0))
    assert "other programs" not in "\n".join(session().introduction())


@pytest.mark.usefixtures("alone")
def test_the_command_writes_rows_and_a_roofline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "lenet5", "--mode", "train", "--precision", "fp32", "--batch", "4", "--quick", "--layers"]
    files = ["--json", str(tmp_path / "rows.json"), "--roofline", str(tmp_path / "roof.svg")]
    assert main([*words, *files, "--rounds", "1"]) == 0
    out, err = capsys.readouterr()
    assert "lenet5" in out
    assert "conv_backward_weight" in out
    assert "measured peak" in err
    found = json.loads((tmp_path / "rows.json").read_text())
    assert isinstance(found, list)
    assert set(found[0]) >= KEYS
    assert (found[0]["mode"], found[0]["precision"], found[0]["peer"]) == ("train", "fp32", None)
    text = (tmp_path / "roof.svg").read_text()
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in text
    for word in ("backward weight", "GFLOP/s", "GB/s", "conv2", "lenet5, train, batch 4, fp32"):
        assert word in text


def test_the_roofline_puts_layers_where_they_belong() -> None:
    layer = {"pass": "forward", "node": "conv1", "operations": 2e9, "bytes": 1e8, "ms": 10.0, "algorithm": "winograd4"}
    pool = {"pass": "forward", "node": "pool1", "operations": 0, "bytes": 4e8, "ms": 10.0, "algorithm": ""}
    text = roofline_svg(fake_row(layers=[layer, pool]), 100.0, 40.0)
    assert "others" in text
    assert "above the roof" in text  # 200 GFLOP/s on a machine of 100
    assert "above the roof" not in roofline_svg(fake_row(layers=[layer, pool]), 300.0, 40.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lenet6"], "expected one of lenet5, vgg_small"),
        (["--mode", "both"], "expected one of train, inference, got 'both'"),
        (["--precision", "fp16"], "expected one of fp32, bf16, int8"),
        (["--precision", "int8", "--mode", "train"], "int8; it is for inference alone"),
        (["--batch", "0"], "expected at least 1, got 0"),
        (["--rounds", "0"], "expected at least 1, got 0"),
        (["--threads", "0"], "expected at least 1, got 0"),
        (["--roofline", "x.svg"], "expected one measurement"),
        (["--json", "no/such/folder/rows.json"], "expected a file in a folder that exists"),
    ],
)
def test_wrong_words(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert message in capsys.readouterr().err
