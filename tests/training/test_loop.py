"""The loop: what a run folder holds, and every option that changes the arithmetic, against a definition of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea import run as files
from fovea.data import from_arrays
from fovea.data.loader import Loader
from fovea.engines.registry import get_engine
from fovea.errors import ConfigError, ShapeError
from fovea.graph.serialize import read_tensors
from fovea.ops.optimizer import SGD
from fovea.run import Run, runs
from fovea.training import Constant, TrainConfig
from fovea.training.loop import Loop
from fovea.training.prepare import recipe_for
from fovea.training.recorder import Log
from tests.training.small_training import CLASSES, OPTIONS, bars, small_data, small_model, train_small, without_times


def test_a_run_folder_holds_everything(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run", record={"data": "bars"}, epochs=4)
    assert run.finished
    assert run.config["record"] == {"data": "bars"}
    assert run.config["data"]["fingerprint"] == small_data().fingerprint
    assert run.config["train"]["lr"] == 0.02
    assert run.config["engine"] == "reference"
    events = [line["event"] for line in run.log]
    assert events.count("epoch") == 4
    assert events[-1] == "end"
    assert run.history("step") == [2, 4, 6, 8]  # 45 samples make 2 whole batches of 16
    assert len(run.history("grad_norm", "step")) == 4
    assert run.metrics is not None
    assert run.metrics["chosen"] == "best on val"
    best = run.metrics["best_epoch"]
    assert run.history("val_accuracy")[best - 1] == run.metrics["val"]["accuracy"] == max(run.history("val_accuracy"))
    assert run.metrics["val"]["confusion"]
    assert {path.name for path in (run.path / files.CHECKPOINTS).iterdir()} == {files.LAST_FILE, files.BEST_FILE}
    assert [one.name for one in runs(tmp_path)] == ["run"]


def test_the_model_file_is_the_trained_model(tmp_path: Path) -> None:
    model, data = small_model(), small_data()
    run = fovea.train(model, data, out=tmp_path, **OPTIONS)
    assert model.classes == CLASSES
    assert data.val is not None
    assert np.array_equal(run.model.logits(data.val.inputs), model.logits(data.val.inputs))
    assert run.model.task == model.task
    assert run.model.provenance["fingerprint"] == data.fingerprint
    assert run.model.provenance["metrics"]["accuracy"] == run.metrics["val"]["accuracy"]  # type: ignore[index]


def test_training_learns(tmp_path: Path) -> None:
    run = train_small(tmp_path, epochs=8, ema=None)
    assert fovea.evaluate(run, small_data(), engine="reference")["accuracy"] == 1.0
    losses = run.history("val_loss")
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("workers", [0, 3])
def test_workers_change_no_bit(tmp_path: Path, workers: int) -> None:
    expected, found = train_small(tmp_path / "a"), train_small(tmp_path / "b", workers=workers)
    assert without_times(found.log) == without_times(expected.log)
    own, other = expected.model.store.tensors(), found.model.store.tensors()
    assert all(np.array_equal(array, other[path]) for path, array in own.items())


def last_tensors(folder: Path) -> dict[str, Any]:
    """The last checkpoint's arrays."""
    return read_tensors(folder / files.CHECKPOINTS / files.LAST_FILE)[0]


def test_accumulated_pieces_are_one_batch(tmp_path: Path) -> None:
    """Without batch statistics and dropout, pieces of a batch sum to the whole up to rounding, weighted classes too."""
    options = {**OPTIONS, "ema": None, "optimizer": "sgd", "lr": 0.01, "batch_size": 15, "class_weights": [1, 2, 5]}
    found = []
    for accumulate in (1, 4):
        net = fovea.Sequential(fovea.Conv(4, 3), fovea.ReLU(), fovea.Flatten(), fovea.Dense(3))
        out = tmp_path / str(accumulate)
        fovea.train(fovea.Model(net, (6, 6, 1), seed=1), small_data(), out=out, accumulate=accumulate, **options)
        found.append(last_tensors(out))
    for path, array in found[0].items():
        scale = np.abs(array).max()
        assert np.allclose(found[1][path], array, rtol=0, atol=1e-5 * scale), path  # ~100 roundings of 6e-8


def test_ema_is_its_formula(tmp_path: Path) -> None:
    """Averages of weights and running statistics over the updates, from checkpoints of every step."""
    seen: list[dict[str, Any]] = []

    def look(line: Any) -> None:
        if line["event"] == "step":
            seen.append({path: array.copy() for path, array in model.store.tensors().items()})

    model = small_model()
    fovea.train(model, small_data(), out=tmp_path, callbacks=[look], **{**OPTIONS, "log_every": 1, "ema": 0.8})
    final = last_tensors(tmp_path)
    start = small_model().store.tensors()
    for path in start:
        average = start[path] if path in small_model().store.parameters else seen[0][path]
        for t, values in enumerate(seen, 1):
            d = np.float32(min(0.8, (1 + t) / (10 + t)))
            average = d * average + (1 - d) * values[path]
        kind = "ema" if path in small_model().store.parameters else "ema-buffer"
        assert np.allclose(final[f"{kind}:{path}"], average, rtol=1e-5, atol=1e-6), path


def test_the_averaged_weights_are_what_is_evaluated_and_kept(tmp_path: Path) -> None:
    run = train_small(tmp_path, epochs=1, ema=0.5)
    final = last_tensors(tmp_path)
    for path, array in run.model.store.parameters.items():
        assert np.array_equal(array, final[f"ema:{path}"])
        assert not np.array_equal(array, final[f"parameter:{path}"])
    for path, array in run.model.store.buffers.items():
        assert np.array_equal(array, final[f"ema-buffer:{path}"])


def test_one_step_is_the_optimisers_rule(tmp_path: Path) -> None:
    """One full-batch step of plain descent moves the weights by lr times the gradient of the loss."""
    model, data = small_model(dropout=0.0), small_data()
    model.preprocessing = data.preprocessing
    plan = model.compile("reference", 45, pixels=True, training=True, loss=fovea.SoftmaxCrossEntropy())
    batch = Loader(data.train, 45, seed=3, epoch=0).batch(0)
    plan.forward(batch.inputs)
    plan.loss_backward(batch.targets)
    gradients = {path: array.copy() for path, array in plan.gradients.items()}
    model = small_model(dropout=0.0)
    fovea.train(
        model, data, out=tmp_path, epochs=1, batch_size=45, optimizer=SGD(momentum=0.0), lr=0.5, augment="none", seed=3,
        schedule=Constant(), engine="reference", report=False,
    )  # fmt: skip
    start = small_model(dropout=0.0).store.parameters
    for path, array in model.store.parameters.items():
        assert np.allclose(array, start[path] - np.float32(0.5) * gradients[path], rtol=0, atol=1e-6), path


def test_patience_stops_and_the_best_epoch_stays(tmp_path: Path) -> None:
    net = fovea.Sequential(fovea.Flatten(), fovea.Dense(3))
    options = {**OPTIONS, "epochs": 20, "patience": 2, "lr": 1e-12, "schedule": "constant", "ema": None}
    run = fovea.train(fovea.Model(net, (6, 6, 1)), small_data(), out=tmp_path, **options)
    assert run.metrics is not None
    assert run.metrics["reason"] == "patience"
    last = run.history("epoch")[-1]
    assert last == run.metrics["best_epoch"] + 2 == 3
    assert [line["best"] for line in run.log if line["event"] == "epoch"][-2:] == [False, False]


def test_a_validation_that_is_not_finite_is_never_the_best(tmp_path: Path) -> None:
    """By accuracy, between equal ones by loss; and log lines stay JSON that every reader takes."""
    config = TrainConfig(batch_size=4, lr=0.1)
    loop = Loop(small_model(), small_data(), config, get_engine("reference"))
    assert not loop._is_better({"accuracy": 1.0, "loss": float("nan")})
    assert loop.state.best is None
    assert loop._is_better({"accuracy": 0.5, "loss": 1.0})
    assert not loop._is_better({"accuracy": 0.5, "loss": 1.0})
    assert loop._is_better({"accuracy": 0.5, "loss": 0.5})
    assert not loop._is_better({"accuracy": 0.4, "loss": 0.1})
    assert (loop.state.best, loop.state.waited) == (0.5, 1)
    log = Log(tmp_path)
    log.write("epoch", epoch=1, val_loss=float("nan"))
    log.close()
    (tmp_path / files.CONFIG_FILE).write_text("{}")
    assert "NaN" not in (tmp_path / files.LOG_FILE).read_text()
    assert np.isnan(Run(tmp_path).history("val_loss")).all()


def test_a_callback_ends_training_with_the_epoch(tmp_path: Path) -> None:
    run = train_small(tmp_path, callbacks=[lambda line: line["event"] == "epoch" and line["epoch"] == 2])
    assert run.metrics is not None
    assert (run.metrics["epochs"], run.metrics["reason"]) == (2, "callback")


def test_balanced_weights_make_classes_weigh_the_same(tmp_path: Path) -> None:
    inputs, _ = bars(12, 0)
    targets = np.array([0] * 8 + [1] * 3 + [2])
    data = from_arrays((inputs, targets), classes=CLASSES, val_fraction=0)
    recipe = recipe_for(TrainConfig(class_weights="balanced"), small_model(), data)
    assert recipe.class_weights is not None
    assert recipe.class_weights.tolist() == pytest.approx([12 / 24, 12 / 9, 12 / 3])
    assert recipe.weight(targets) == pytest.approx(12)
    soft = np.eye(3, dtype=np.float32)[targets]
    assert recipe.weight(soft) == pytest.approx(12)
    with pytest.raises(ConfigError, match="expected 3 numbers, got 2"):
        recipe_for(TrainConfig(class_weights=(1.0, 2.0)), small_model(), data)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixing_trains_with_soft_targets(tmp_path: Path, mix: str) -> None:
    run = train_small(tmp_path, mix=mix, class_weights="balanced", label_smoothing=0.1, accumulate=2)
    assert "train_accuracy" not in run.log[1]
    assert len(run.history("train_loss")) == 3
    assert all(np.isfinite(run.history("train_loss")))


def test_frozen_layers_stay_and_the_rest_moves(tmp_path: Path) -> None:
    start = small_model().store.tensors()
    run = train_small(tmp_path, trainable=["dense1"], ema=None)
    for path, array in run.model.store.tensors().items():
        assert np.array_equal(array, start[path]) == (not path.startswith("dense1")), path


def test_what_the_model_froze_is_recorded(tmp_path: Path) -> None:
    model = small_model()
    model.freeze("conv1", "batchnorm1")
    run = fovea.train(model, small_data(), out=tmp_path, **{**OPTIONS, "epochs": 1})
    assert run.config["train"]["trainable"] == ["dense1.weight", "dense1.bias"]


def test_regression_trains_in_units(tmp_path: Path) -> None:
    inputs, places = bars(60, 0)
    values = (1000.0 + 50.0 * places).astype(np.float32)
    data = from_arrays((inputs, values), val=(inputs[:15], values[:15]), task="regression", val_fraction=0)
    net = fovea.Sequential(fovea.Flatten(), fovea.Dense(8), fovea.ReLU(), fovea.Dense(1))
    model = fovea.Model(net, (6, 6, 1))
    run = fovea.train(model, data, out=tmp_path, augment="none", **{**OPTIONS, "epochs": 30, "ema": None})
    assert run.metrics is not None
    assert run.metrics["val"]["r2"] > 0.9
    assert run.history("train_mae")[-1] < 25
    predicted = run.model.predict(inputs[:3])
    assert [item.to_dict()["value"] for item in predicted] == pytest.approx(list(values[:3]), abs=40)


def test_without_validation_the_last_weights_are_kept(tmp_path: Path) -> None:
    model = small_model()
    run = fovea.train(model, small_data(val=0), out=tmp_path, **OPTIONS)
    assert run.metrics == json.loads((tmp_path / files.METRICS_FILE).read_text())
    assert run.metrics["chosen"] == "last"
    assert "val" not in run.metrics
    assert not (tmp_path / files.CHECKPOINTS / files.BEST_FILE).exists()
    with pytest.raises(ConfigError, match=r"^\[patience\] expected a validation split"):
        fovea.train(small_model(), small_data(val=0), out=tmp_path / "b", patience=1, **OPTIONS)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    train_small(tmp_path, epochs=1)
    before = (tmp_path / files.MODEL_FILE).read_bytes()
    with pytest.raises(ConfigError, match="expected a folder without a run"):
        train_small(tmp_path)
    assert (tmp_path / files.MODEL_FILE).read_bytes() == before


def test_a_folder_of_its_own_has_name_and_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = fovea.train(small_model(), small_data(), **{**OPTIONS, "epochs": 1})
    second = fovea.train(small_model(), small_data(), **{**OPTIONS, "epochs": 1})
    assert first.path.parent == Path("runs")
    assert first.name.startswith("small-")
    assert first.path != second.path


def test_a_network_for_other_data_is_refused_by_name(tmp_path: Path) -> None:
    data = small_data()
    net = fovea.Sequential(fovea.Flatten(), fovea.Dense(5))
    with pytest.raises(
        ShapeError, match=r"expected outputs \(N, 3\) for arrays, got \('N', 5\); end the network with Dense"
    ):
        fovea.train(fovea.Model(net, (6, 6, 1)), data, out=tmp_path)
    net = fovea.Sequential(fovea.Flatten(), fovea.Dense(3))
    with pytest.raises(ShapeError, match=r"expected inputs \(8, 8, 1\) as the network takes them, got \(6, 6, 1\)"):
        fovea.train(fovea.Model(net, (8, 8, 1)), data, out=tmp_path)
    with pytest.raises(ConfigError, match="expected the native engine with threads"):
        train_small(tmp_path, threads=2)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a run folder"):
        Run(tmp_path)
    (tmp_path / files.CONFIG_FILE).write_text("{")
    with pytest.raises(ConfigError, match="the run is damaged"):
        _ = Run(tmp_path).config
    assert runs(tmp_path / "nowhere") == []


def test_the_starting_weights_are_kept_where_no_epoch_is_better(tmp_path: Path) -> None:
    trained = train_small(tmp_path / "first", epochs=6, ema=None).model
    model = small_model()
    model.store.load(trained.store.tensors())
    before = {path: array.copy() for path, array in model.store.tensors().items()}
    options = {**OPTIONS, "ema": None, "keep_start": True, "optimizer": "sgd", "lr": 1e3, "clip_norm": 1.0, "epochs": 2}
    run = fovea.train(model, small_data(), out=tmp_path / "spoilt", **options)
    assert run.metrics is not None
    assert (run.metrics["best_epoch"], run.metrics["epochs"], run.metrics["chosen"]) == (0, 2, "best on val")
    assert run.log[0]["event"] == "start"
    assert run.log[0]["val_accuracy"] == run.metrics["val"]["accuracy"]
    assert all(np.array_equal(array, before[path]) for path, array in model.store.tensors().items())
    assert run.model.provenance["epoch"] == 0
    none = fovea.train(model, small_data(), out=tmp_path / "none", **{**options, "epochs": 0})
    assert none.metrics is not None
    assert (none.metrics["best_epoch"], none.metrics["epochs"], none.metrics["steps"]) == (0, 0, 0)
    assert np.array_equal(none.model.logits(small_data().train.inputs), model.logits(small_data().train.inputs))


def test_the_starting_weights_are_left_where_an_epoch_is_better(tmp_path: Path) -> None:
    plain = train_small(tmp_path / "plain", epochs=4)
    kept = train_small(tmp_path / "kept", epochs=4, keep_start=True)
    assert kept.metrics is not None
    assert plain.metrics is not None
    assert kept.metrics["best_epoch"] == plain.metrics["best_epoch"] > 0
    assert without_times(kept.log)[1:] == without_times(plain.log)
    with pytest.raises(ConfigError, match="validation split to compare with"):
        fovea.train(small_model(), small_data(val=0), out=tmp_path / "x", **{**OPTIONS, "keep_start": True})
    with pytest.raises(ConfigError, match=r"\[epochs\] expected an integer of at least 1"):
        TrainConfig(epochs=0)


def test_parts_join_later_and_the_optimiser_begins_anew(tmp_path: Path) -> None:
    start = {path: array.copy() for path, array in small_model().parameters().items()}
    seen: list[dict[str, bool]] = []

    def watch(line: Any) -> None:
        if line["event"] == "epoch":
            now = model.parameters()
            seen.append(
                {path: bool(np.array_equal(now[path], start[path])) for path in ("conv1.weight", "dense1.bias")}
            )

    model = small_model()
    stages = [(2, ["conv1"]), (1, "batchnorm1")]
    options = {**OPTIONS, "ema": None, "unfreeze": stages, "epochs": 4}
    run = fovea.train(model, small_data(), out=tmp_path / "run", callbacks=[watch], **options)
    assert [one["conv1.weight"] for one in seen] == [True, True, False, False]
    assert not any(one["dense1.bias"] for one in seen)
    assert run.config["train"]["unfreeze"] == [[2, ["conv1"]], [1, ["batchnorm1"]]]
    tensors, metadata = read_tensors(run.path / files.CHECKPOINTS / files.LAST_FILE)
    assert metadata["updates"] == 4  # of the two epochs since conv1 joined
    assert "optimizer:exp_avg:conv1.weight" in tensors
    for wrong, message in (([(0, ["conv1"])], "pairs"), ("conv1", "pairs"), ([(1, ["*"])], "something that trains")):
        with pytest.raises(ConfigError, match=message):
            fovea.train(small_model(), small_data(), out=tmp_path / "x", **{**options, "unfreeze": wrong})


def test_an_anchor_holds_weights_where_they_began(tmp_path: Path) -> None:
    """One update of SGD by hand: the step, then the pull back by lr times the strength."""
    options = {**OPTIONS, "ema": None, "epochs": 1, "optimizer": SGD(), "lr": 0.1, "schedule": "constant"}
    options |= {"batch_size": 45, "augment": "none"}
    start = {path: array.copy() for path, array in small_model().parameters().items()}
    free, held = small_model(), small_model()
    fovea.train(free, small_data(), out=tmp_path / "free", **options)
    fovea.train(held, small_data(), out=tmp_path / "held", anchor=4.0, **options)
    for path, began in start.items():
        expected = free.parameters()[path] - 0.1 * 4.0 * (free.parameters()[path] - began)
        np.testing.assert_allclose(held.parameters()[path], expected, rtol=1e-5, atol=1e-7)
