"""Every command on data that is small enough to train on in a second."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fovea.cli import main
from fovea.run import Run
from tests import tiny_data

Answer = tuple[int, str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and the run that was trained on it; tests do not change it."""
    root = tmp_path_factory.mktemp("world")
    tiny_data.images(root / "data")
    words = ["train", root / "data", "--epochs", "2", "--batch-size", "8", "--out", root / "run", "--seed", "1"]
    assert main([str(word) for word in words]) == 0
    return root


def test_train_leaves_a_run(world: Path) -> None:
    run = Run(world / "run")
    assert run.finished
    assert run.report_path.exists()
    assert run.config["train"]["epochs"] == 2
    assert run.config["record"]["data"] == str((world / "data").resolve())
    assert run.config["record"]["command"].startswith("fovea train ")
    assert run.model.classes == ("green", "red")


def test_train_says_what_it_decided_and_where_things_are(
    fovea: Callable[..., Answer], world: Path, tmp_path: Path
) -> None:
    code, out, err = fovea("train", world / "data", "--epochs", 1, "--batch-size", 8, "--out", tmp_path / "run")
    assert code == 0
    assert "chosen by the data" in err
    assert "stratified" in err
    assert "training    1 epoch, batches of 8, sgd at lr 0.025, onecycle, weight decay 0.0005, standard augm" in err
    assert "epoch 1/1" in err
    for text in ("validation: accuracy", str(tmp_path / "run"), "report.html", "fovea evaluate"):
        assert text in out


def test_classes_that_cannot_be_learnt_are_told(fovea: Callable[..., Answer], world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "data", tmp_path / "data")
    (tmp_path / "data/test/red").rename(tmp_path / "data/test/Red")
    code, _, err = fovea("train", tmp_path / "data", "--epochs", 1, "--batch-size", 8, "--out", tmp_path / "run")
    assert code == 0
    assert "note        class names that differ by case, space or hyphen only: 'Red' / 'red'" in err
    assert "note        no training samples of 'Red': it cannot be learnt; see fovea data check" in err


def test_files_left_out_are_told(fovea: Callable[..., Answer], world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "data", tmp_path / "data")
    shutil.copytree(world / "data/test", tmp_path / "data/val")
    for place in ("train/red/1.png", "val/red/1.png", "test/red/1.png"):
        (tmp_path / "data" / place).write_bytes(b"no picture")
    few = ["--epochs", 1, "--batch-size", 8, "--max-bad", 0.2]
    code, _, err = fovea("train", tmp_path / "data", *few, "--out", tmp_path / "run")
    assert code == 0
    assert "note: 2 files were left out as unreadable: train/red/1.png " in err
    kept = Run(tmp_path / "run").config["data"]["quarantined"]
    assert [one["path"] for one in kept] == ["train/red/1.png", "val/red/1.png"]
    code, out, _ = fovea("evaluate", tmp_path / "run", "--max-bad", 0.2)
    assert code == 0
    assert out.splitlines()[1] == "1 more left out, since they cannot be read; fovea data check names them"


def test_evaluate(fovea: Callable[..., Answer], world: Path) -> None:
    code, out, _ = fovea("evaluate", world / "run", world / "data", "--json")
    result = json.loads(out)
    assert code == 0
    assert {"accuracy", "top5", "loss", "per_class", "confusion", "ece"} <= set(result)
    assert result["n"] == 8
    assert result["split"] == "test"
    assert set(result["per_class"]["red"]) == {"precision", "recall", "f1", "support"}
    code, out, _ = fovea("evaluate", world / "run")  # the run knows its data
    assert code == 0
    assert "8 samples of test" in out
    assert "precision" in out
    assert "test accuracy" in Run(world / "run").report_path.read_text(encoding="utf-8")


def test_evaluate_whole_folders_that_have_no_splits(fovea: Callable[..., Answer], world: Path) -> None:
    code, out, err = fovea("evaluate", world / "run" / "model.safetensors", world / "data" / "train", "--json")
    assert code == 0
    assert json.loads(out)["n"] == 24
    assert "all of its samples are used" in err


def test_predict(fovea: Callable[..., Answer], world: Path) -> None:
    picture = world / "data" / "test" / "red" / "0.png"
    code, out, err = fovea("predict", world / "run", picture, "--json", "--top-k", 1)
    (answer,) = json.loads(out)
    assert code == 0
    assert answer["path"] == str(picture)
    assert answer["label"] in ("red", "green")
    assert 0.5 <= answer["probability"] <= 1
    assert len(answer["top"]) == 1
    code, out, err = fovea("predict", world / "run", world / "data" / "test")
    assert code == 0
    assert len(out.splitlines()) == 8
    assert err == ""


def test_predict_goes_on_after_a_bad_file(fovea: Callable[..., Answer], world: Path, tmp_path: Path) -> None:
    shutil.copy(world / "data" / "test" / "red" / "0.png", tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    code, out, err = fovea("predict", world / "run", tmp_path, "--json")
    assert code == 2
    assert [Path(answer["path"]).name for answer in json.loads(out)] == ["a.png"]
    assert "b.png" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("subject", ["lenet5", "run", "run/model.safetensors"])
def test_summary(fovea: Callable[..., Answer], world: Path, subject: str) -> None:
    name: object = subject if subject == "lenet5" else world / subject
    code, out, _ = fovea("summary", name, "--json")
    result = json.loads(out)
    assert code == 0
    wanted = {"name", "op", "output_shape", "parameters", "macs", "activation_bytes", "receptive_field", "jump"}
    assert wanted <= set(result["layers"][0])
    assert result["totals"]["parameters"] == sum(layer["parameters"] for layer in result["layers"])
    code, out, _ = fovea("summary", name)
    assert code == 0
    assert "receptive field" in out


def test_summary_at_another_size(fovea: Callable[..., Answer]) -> None:
    code, out, _ = fovea("summary", "resnet18", "--input-shape", "64,64,3", "--classes", "7", "--json")
    assert code == 0
    assert json.loads(out)["layers"][-1]["output_shape"] == [7]


def test_models(fovea: Callable[..., Answer]) -> None:
    code, out, _ = fovea("models", "--json")
    listed = {one["name"]: one for one in json.loads(out)}
    assert code == 0
    assert listed["lenet5"]["parameters"] == 61_706
    assert "61,706" in fovea("models")[1]


def test_doctor_measures_the_machine(fovea: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fovea.cli.doctor._SECONDS", 0.01)
    code, out, _ = fovea("doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["engine"] in found["engines"]
    assert found["extras"]["demo"] is True  # the tests need scikit-learn
    peak = found["measured"].pop("peak")
    assert all(value > 0 for value in (*peak.values(), *found["measured"].values()))
    assert "GFLOP/s" in fovea("doctor")[1]


def test_doctor_shows_a_plan(fovea: Callable[..., Answer], world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fovea.cli.doctor._SECONDS", 0.01)
    code, out, _ = fovea("doctor", world / "run", "--batch-size", 4, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["plan"]
    assert found["images_per_second"] > 0
    assert "conv" in fovea("doctor", world / "run")[1]


def test_data_check(fovea: Callable[..., Answer], world: Path, tmp_path: Path) -> None:
    code, out, _ = fovea("data", "check", world / "data", "--json")
    assert code == 0
    assert json.loads(out)["splits"] == {"train": 22, "val": 2, "test": 8}
    shutil.copytree(world / "data", tmp_path / "data")
    (tmp_path / "data" / "train" / "red" / "broken.png").write_bytes(b"no picture")
    _, out, _ = fovea("data", "check", tmp_path / "data")
    assert "broken.png" in out


def test_data_get_lists_names(fovea: Callable[..., Answer]) -> None:
    code, out, _ = fovea("data", "get")
    assert code == 0
    assert "digits" in out.split()


def test_resume_a_finished_run_changes_nothing(fovea: Callable[..., Answer], world: Path) -> None:
    before = (world / "run" / "model.safetensors").read_bytes()
    code, _, err = fovea("train", "--resume", world / "run")
    assert code == 0
    assert "finished already" in err
    assert (world / "run" / "model.safetensors").read_bytes() == before


def test_resume_ends_with_the_same_weights(
    fovea: Callable[..., Answer], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after the first epoch and resumed, from another working directory: as if nothing had happened."""
    import fovea as package

    train = package.train

    def interrupted(*arguments: Any, **options: Any) -> Any:
        def stop(line: dict[str, Any]) -> bool:
            if line["event"] == "epoch":
                raise KeyboardInterrupt
            return False

        return train(*arguments, callbacks=[stop], **options)

    words = ["train", world / "data", "--epochs", 2, "--batch-size", 8, "--out", tmp_path / "run", "--seed", 1]
    monkeypatch.setattr(package, "train", interrupted)
    code, _, err = fovea(*words)
    assert code == 130
    assert f"fovea train --resume {tmp_path / 'run'}" in err
    monkeypatch.setattr(package, "train", train)
    monkeypatch.chdir(tmp_path)
    code, _, _ = fovea("train", "--resume", tmp_path / "run")
    assert code == 0
    ours, theirs = Run(tmp_path / "run").model.parameters(), Run(world / "run").model.parameters()
    assert all((ours[path] == theirs[path]).all() for path in theirs)


def test_options_override_the_config_file(fovea: Callable[..., Answer], world: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"epochs": 7, "batch_size": 8, "optimizer": "adamw"}', encoding="utf-8")
    words = ("--config", tmp_path / "recipe.json", "--epochs", 1, "--model", "mlp", "--out", tmp_path / "run")
    code, _, _ = fovea("train", world / "data", *words)
    config = Run(tmp_path / "run").config
    assert code == 0
    assert config["train"]["epochs"] == 1
    assert config["train"]["batch_size"] == 8
    assert config["train"]["optimizer"]["kind"] == "adamw"
    assert config["model"]["name"] == "mlp"


def test_precision(fovea: Callable[..., Answer], world: Path, tmp_path: Path) -> None:
    """Train, evaluate and predict with activations in bfloat16; the run knows, and its numbers are near."""
    pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")
    bf16 = ("--precision", "bf16")
    words = ("--epochs", 2, "--batch-size", 8, "--out", tmp_path / "run", "--seed", 1)
    assert fovea("train", world / "data", *words, *bf16)[0] == 0
    assert Run(tmp_path / "run").config["train"]["precision"] == "bf16"
    assert Run(tmp_path / "run").model.parameters().keys() == Run(world / "run").model.parameters().keys()
    losses = [json.loads(fovea("evaluate", world / "run", "--json", *given)[1])["loss"] for given in ((), bf16)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    code, out, _ = fovea("predict", world / "run", world / "data" / "test", "--json", *bf16)
    assert code == 0
    assert len(json.loads(out)) == 8
    code, out, _ = fovea("doctor", world / "run", "--json", *bf16)
    assert code == 0
    assert "bf16" in {row["precision"] for row in json.loads(out)["plan"]}
    code, _, err = fovea("evaluate", world / "run", "--engine", "reference", *bf16)
    assert code != 0
    assert "expected precision fp32" in err


def test_freeze_and_find_lr(fovea: Callable[..., Answer], world: Path, tmp_path: Path) -> None:
    before = Run(world / "run").model.parameters()
    words = ("--model", world / "run", "--freeze", "stage1", "--find-lr", "--epochs", 1, "--batch-size", 8)
    code, _, err = fovea("train", world / "data", *words, "--batch-norm", "update", "--out", tmp_path / "run")
    run = Run(tmp_path / "run")
    assert code == 0
    assert "frozen" in err
    assert run.config["train"]["batch_norm"] == "update"
    assert run.config["record"]["find_lr"]["suggestion"] == run.config["train"]["lr"]
    assert "learning-rate finder" in run.report_path.read_text(encoding="utf-8")
    after = run.model.parameters()
    assert all((after[path] == before[path]).all() for path in before if path.startswith("stage1"))
    assert any((after[path] != before[path]).any() for path in before)


def test_a_run_can_be_moved(fovea: Callable[..., Answer], world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "run", tmp_path / "elsewhere")
    code, out, _ = fovea("evaluate", tmp_path / "elsewhere", "--json")
    assert code == 0
    assert json.loads(out)["n"] == 8


KINDS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...], str]] = {
    "signals": (
        tiny_data.signals,
        ("--label-pattern", "{label}_{take}.wav", "--test-where", "take<2", "--length", "512"),
        "wav",
    ),
    "volumes": (tiny_data.volumes, (), "npy"),
    "clips": (tiny_data.clips, (), "gif"),
    "values": (tiny_data.values, (), "png"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_data(fovea: Callable[..., Answer], tmp_path: Path, kind: str) -> None:
    make, words, suffix = KINDS[kind]
    data = make(tmp_path / "data")
    code, out, _ = fovea("train", data, *words, "--epochs", 1, "--batch-size", 8, "--out", tmp_path / "run")
    assert code == 0
    assert "validation: " in out
    code, out, _ = fovea("evaluate", tmp_path / "run", "--json")
    assert code == 0
    assert ("rmse" if kind == "values" else "accuracy") in json.loads(out)
    one = next(iter(sorted((tmp_path / "data").rglob(f"*.{suffix}"))))
    code, out, _ = fovea("predict", tmp_path / "run", one, "--json")
    assert code == 0
    assert ("value" if kind == "values" else "label") in json.loads(out)[0]


def test_smooth_l1_and_warm_up(fovea: Callable[..., Answer], world: Path, tmp_path: Path) -> None:
    table = tiny_data.values(tmp_path / "values")
    words = ["train", table, "--model", "mlp", "--loss", "smooth_l1", "--epochs", 2, "--warmup-epochs", 1]
    code, _, err = fovea(*words, "--batch-size", 4, "--out", tmp_path / "run")
    assert code == 0, err
    run = Run(tmp_path / "run")
    assert run.model.task.to_dict()["loss_kind"] == "smooth_l1"
    assert run.config["train"]["warmup_epochs"] == 1 or run.config["train"]["schedule"]["warmup"] == 0.5
    code, _, err = fovea("train", world / "data", "--loss", "smooth_l1")
    assert code == 2
    assert "expected data with values to regress" in err


def test_a_model_may_abstain_and_keep_to_it(fovea: Callable[..., Answer], world: Path, tmp_path: Path) -> None:
    pictures = world / "data" / "test"
    answers = json.loads(fovea("predict", world / "run", pictures, "--json", "--tta", "flip")[1])
    assert {one["abstained"] for one in answers} == {False}
    bound = sorted(one["probability"] for one in answers)[len(answers) // 2]
    code, out, err = fovea("predict", world / "run", pictures, "--min-confidence", bound, "--tta", "flip")
    assert code == 0, err
    assert sum("unsure (" in line for line in out.splitlines()) == sum(one["probability"] < bound for one in answers)
    small = tmp_path / "small.safetensors"
    assert fovea("export", world / "run", "-o", small, "--float16", "--min-confidence", "1")[0] == 0
    assert small.stat().st_size < (world / "run" / "model.safetensors").stat().st_size
    assert {one["label"] for one in json.loads(fovea("predict", small, pictures, "--json")[1])} == {"unsure"}
    result = json.loads(fovea("evaluate", small, world / "data", "--json", "--tta", "ten-crop")[1])
    assert (result["answered"]["coverage"], result["tta"]) == (0.0, "ten-crop")
    assert (
        "answered from 0.1 on: 8 samples, coverage 1.0000, accuracy of these"
        in (fovea("evaluate", small, world / "data", "--min-confidence", 0.1)[1])
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "RUN", "DATA", "--tta", "crops"], "[tta] expected one of flip, five-crop, ten-crop, got 'crops'"),
        (["predict", "RUN", "DATA", "--min-confidence", "80"], "expected a probability from 0 to 1, got 80.0"),
        (["evaluate", "RUN", "DATA", "--min-confidence", "-1"], "expected a probability from 0 to 1, got -1.0"),
        (["export", "RUN", "-o", "OUT.onnx", "--float16"], "expected it with a model file (.safetensors), got an ONNX"),
        (["export", "RUN", "-o", "OUT.safetensors", "--images"], "expected it with an ONNX file, got a model file"),
        (["export", "RUN", "-o", "OUT.txt"], "expected a file that ends in .onnx, .pth or .safetensors"),
    ],
)
def test_views_thresholds_and_files_that_make_no_sense(
    fovea: Callable[..., Answer], world: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    places = {"RUN": world / "run", "DATA": world / "data"}
    code, out, err = fovea(*(places.get(word, word.replace("OUT", str(tmp_path / "out"))) for word in words))
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
