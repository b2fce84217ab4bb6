"""``fovea.finetune``: every plan on real arithmetic, what a run records, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea.data import from_arrays
from fovea.errors import ConfigError, DataError, FoveaError, GraphError
from fovea.graph.serialize import read_tensors
from fovea.report.transfer import verdict
from fovea.run import CHECKPOINTS, LAST_FILE
from tests import tiny_data
from tests.training.transfer.small_transfer import (
    QUICK,
    SHADES,
    STRIPES,
    network,
    pretrained,
    shade_data,
    stripe_data,
    stripes,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of these tests stay with them."""
    monkeypatch.setenv("FOVEA_CACHE", str(tmp_path / "cache"))


def transfer_of(run: fovea.Run) -> dict[str, Any]:
    record: dict[str, Any] = run.config["record"]["transfer"]
    return record


def test_the_adviser_probes_what_is_small(tmp_path: Path) -> None:
    model, data = pretrained(), shade_data()
    before = {path: array.copy() for path, array in model.store.tensors().items()}
    run = fovea.finetune(data, model, out=tmp_path / "run", **QUICK)
    about = transfer_of(run)
    assert about["plan"]["decided_by"] == "adviser"
    assert about["plan"]["name"].startswith("probe")
    assert about["measured"]["per_class"] == dict.fromkeys(SHADES, 10)
    assert run.metrics is not None
    assert (run.metrics["epochs"], run.metrics["best_epoch"]) == (0, 0)
    assert run.metrics["val"]["accuracy"] > 0.8
    assert run.model.classes == SHADES
    assert run.model.preprocessing == model.preprocessing
    assert run.model.provenance["pretrained"]["network"] == "stripes"
    assert all(np.array_equal(array, before[path]) for path, array in model.store.tensors().items())
    assert model.classes == STRIPES


def test_fine_tuning_is_never_worse_than_the_probe(tmp_path: Path) -> None:
    for lr in (1e-3, 1e3):  # a rate that destroys everything
        run = fovea.finetune(
            shade_data(), pretrained(), plan="finetune", lr=lr, epochs=2, advise=False, out=tmp_path / f"{lr}", **QUICK
        )
        probe = fovea.finetune(shade_data(), pretrained(), plan="probe", advise=False, out=tmp_path / f"p{lr}", **QUICK)
        assert run.metrics is not None
        assert probe.metrics is not None
        start = run.log[0]
        assert start["val_accuracy"] == probe.metrics["val"]["accuracy"]
        assert run.metrics["val"]["accuracy"] >= start["val_accuracy"]
    assert run.metrics["best_epoch"] == 0
    assert any("The probe won" in sentence for sentence in verdict(run))
    assert transfer_of(run)["measured"] is None
    images = shade_data().val.inputs  # type: ignore[union-attr]
    assert np.array_equal(run.model.logits(images), probe.model.logits(images))


def test_a_probe_on_an_earlier_layer_cuts_the_network(tmp_path: Path) -> None:
    run = fovea.finetune(shade_data(), pretrained(), layer="conv1", out=tmp_path / "run", **QUICK)
    about = transfer_of(run)
    assert about["plan"]["name"] == "probe-earlier"
    assert about["probe"]["layer"] == "relu1"
    assert "conv2" not in run.model.graph.nodes
    assert run.model.parameters()["probe.weight"].shape == (8, 4)
    assert transfer_of(fovea.finetune(shade_data(), pretrained(), plan="probe-earlier", out=tmp_path / "b", **QUICK))[
        "probe"
    ]["layer"]


def test_scratch_begins_with_fresh_weights(tmp_path: Path) -> None:
    run = fovea.finetune(
        shade_data(), pretrained(), plan="scratch", epochs=1, lr=1e-6, out=tmp_path / "run", advise=False, **QUICK
    )
    learned = pretrained().parameters()["conv1.weight"]
    assert not np.allclose(run.model.parameters()["conv1.weight"], learned, atol=1e-2)
    assert run.config["train"]["keep_start"] is False


def test_what_is_frozen_stays_and_the_rest_learns_by_depth(tmp_path: Path) -> None:
    model = pretrained()
    options: dict[str, Any] = {"epochs": 1, "lr": 0.01, "advise": False, "lr_depth": 0.25, **QUICK}
    run = fovea.finetune(shade_data(), model, freeze=["dense1.bias"], freeze_depth=1, out=tmp_path / "run", **options)
    config, about = run.config["train"], transfer_of(run)
    assert set(config["trainable"]) == {
        "conv2.weight", "conv2.bias", "dense1.weight", "dense2.weight", "dense2.bias"
    }  # fmt: skip
    assert about["frozen"] == ["conv1", "batchnorm1", "dense1.bias"]
    scales = dict(config["optimizer"]["lr_scales"])
    assert scales["conv1"] == scales["batchnorm1"] == 0.25
    assert scales["conv1"] < scales["conv2"] < scales["dense1"] < 1
    half = fovea.finetune(shade_data(), model, freeze_depth=1.0, out=tmp_path / "all", **options)
    assert half.config["train"]["trainable"] == ["dense2.weight", "dense2.bias"]


def test_batch_norm_keeps_its_statistics_unless_told(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "lr": 1e-3, "advise": False, "plan": "finetune", **QUICK}
    kept = fovea.finetune(shade_data(), pretrained(), out=tmp_path / "kept", **options)
    assert "batchnorm1.weight" not in kept.config["train"]["trainable"]
    assert transfer_of(kept)["batch_norm"] == "frozen"
    renewed = fovea.finetune(shade_data(), pretrained(), batch_norm="update", out=tmp_path / "new", **options)
    assert renewed.config["train"]["trainable"] is None
    before = pretrained().buffers()["batchnorm1.running_mean"]
    if kept.metrics and kept.metrics["best_epoch"]:
        assert np.array_equal(kept.model.buffers()["batchnorm1.running_mean"], before)


def test_a_head_that_knows_all_classes_stays_when_it_is_better(tmp_path: Path) -> None:
    turned = ("standing", "sloping", "lying")
    data = from_arrays(stripes(9, 5), val=stripes(30, 6), classes=STRIPES, name="stripes")
    run = fovea.finetune(data.with_classes(turned), pretrained(), plan="probe", out=tmp_path / "run", **QUICK)
    about = transfer_of(run)
    assert about["own_head"] == 1.0
    assert run.model.classes == turned
    assert run.metrics is not None
    assert run.metrics["val"]["accuracy"] > 0.95
    strange = from_arrays(stripes(60, 5), val=stripes(30, 6), classes=("sloping", "lying", "standing"), name="wrong")
    other = fovea.finetune(strange, pretrained(), plan="probe", out=tmp_path / "other", **QUICK)
    assert transfer_of(other)["own_head"] < 0.1  # the names are the same, the classes are others
    assert transfer_of(other)["probe"]["accuracy"] > 0.9


def test_validation_is_made_stratified_and_recorded(tmp_path: Path) -> None:
    run = fovea.finetune(shade_data(40, val=0), pretrained(), plan="probe", out=tmp_path / "run", **QUICK)
    assert run.config["data"]["splits"] == {"train": 32, "val": 8}
    assert run.config["data"]["validation"].startswith("8 of 40 training samples (20%), stratified")
    assert any("8 images say little" in sentence for sentence in verdict(run))


def test_colours_are_handled_as_preprocessing_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colour = from_arrays(stripes(30, 0, channels=3), val=stripes(12, 1, channels=3), classes=STRIPES, name="colour")
    fovea.finetune(colour, pretrained(), plan="probe", out=tmp_path / "grey", **QUICK)
    assert "colour images become grey" in capsys.readouterr().err
    wide = fovea.models.small_cnn(3, (12, 12, 3), preprocessing=fovea.Preprocessing(size=(12, 12)))
    run = fovea.finetune(stripe_data(30), wide, plan="probe", out=tmp_path / "wide", **QUICK)
    assert "repeated into the 3 channels" in capsys.readouterr().err
    assert run.model.graph.input_shapes == ((12, 12, 3),)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"plan": "finetun"}, ConfigError, "near names: finetune"),
        ({"layer": "conv11"}, GraphError, "near names: conv1"),
        ({"freeze": ["conv11"]}, GraphError, "near names: conv1"),
        ({"freeze_depth": 9}, ConfigError, "up to 4, or a share"),
        ({"freeze_depth": 1.5}, ConfigError, "up to 4, or a share"),
        ({"lr_depth": 0.0}, ConfigError, "above 0 and at most 1"),
        ({"plan": "probe", "lr": 0.1}, ConfigError, "solved and not trained"),
        ({"plan": "probe", "freeze": ["conv1"]}, ConfigError, "solved and not trained"),
        ({"freeze": ["*"]}, ConfigError, "something left to train"),
        ({"epochz": 3}, ConfigError, "near names: epochs"),
        ({"trainable": ["conv1"]}, ConfigError, "freeze= in place of trainable="),
        ({"plan": "probe", "gradual": True}, ConfigError, r"\[gradual\] expected none"),
        ({"source": 3}, ConfigError, "a Model, a run or a file"),
        ({"source": "lenet"}, ConfigError, "near names: lenet5"),
        ({"source": "small_cnn"}, ConfigError, "with weights that are known"),
        ({"data": from_arrays(stripes(6, 0), classes=[*STRIPES, "none"])}, DataError, "got none of 'none'"),
        ({"data": from_arrays(stripes(3, 0), classes=STRIPES, val_fraction=0)}, DataError, "two of a class at least"),
        ({"data": from_arrays((stripes(8, 0)[0], np.ones(8, np.float32) / 3))}, DataError, "data for regression"),
        ({"data": from_arrays((stripes(8, 0)[0], np.zeros(8, int)), classes=["a"])}, DataError, "two classes or more"),
    ],
)
def test_wrong_input_gets_one_sentence(
    tmp_path: Path, change: dict[str, Any], error: type[FoveaError], message: str
) -> None:
    arguments: dict[str, Any] = {"data": shade_data(), "source": pretrained(), "advise": False, **QUICK, **change}
    with pytest.raises(error, match=message) as caught:
        fovea.finetune(arguments.pop("data"), arguments.pop("source"), out=tmp_path / "run", **arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_source_must_know_its_input(tmp_path: Path) -> None:
    model = network()
    model.preprocessing = None
    path = model.save(tmp_path / "m.safetensors")
    with pytest.raises(ConfigError, match=r"m\.safetensors, which does not say; tell it with --preprocess imagenet"):
        fovea.finetune(shade_data(), path)
    colours = fovea.models.small_cnn(3, (12, 12, 4), preprocessing=fovea.Preprocessing(size=(12, 12), channels=4))
    with pytest.raises(DataError, match="images of 4 channels as the network takes them, got 1"):
        fovea.finetune(shade_data(), colours)


def test_a_path_is_read_as_the_network_takes_it_and_found_again(tmp_path: Path) -> None:
    data = tiny_data.images(tmp_path / "data", per_class=6)
    run = fovea.finetune(data, "lenet5:mnist", plan="probe", advise=False, out=tmp_path / "run")
    record = run.config["record"]
    assert record["data"] == str((tmp_path / "data").resolve())
    assert record["options"] == {"val_fraction": 0.2, "size": [28, 28]}
    assert run.config["data"]["splits"] == {"train": 10, "val": 2, "test": 8}
    assert record["transfer"]["source"]["from"] == "lenet5:mnist"
    assert "Where it came from" in run.report_path.read_text(encoding="utf-8")
    assert fovea.evaluate(run, tmp_path / "data")["n"] == 8


def test_blocks_may_join_one_by_one_and_weights_be_held(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 4, "lr": 0.01, "advise": False, **QUICK}
    run = fovea.finetune(shade_data(), pretrained(), gradual=True, out=tmp_path / "run", **options)
    assert run.config["train"]["unfreeze"] == [[1, ["dense1"]], [1, ["conv2"]], [2, ["conv1", "batchnorm1"]]]
    assert transfer_of(run)["plan"]["decided_by"] == "you"

    def moved(anchor: float) -> float:
        done = fovea.finetune(shade_data(), pretrained(), anchor=anchor, out=tmp_path / f"{anchor}", **options)
        assert done.config["train"]["weight_decay"] == (0.0 if anchor else 0.01)
        last = read_tensors(done.path / CHECKPOINTS / LAST_FILE)[0]
        return float(np.abs(last["parameter:conv2.weight"] - pretrained().parameters()["conv2.weight"]).max())

    assert moved(1e4) < 0.1 * moved(0.0)
