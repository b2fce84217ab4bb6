"""Bad input: one line on stderr that says what to do, exit code 2, never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fovea.cli import main
from tests import tiny_data

Wrong = Callable[[Path], list[object]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/, a run, an imported-like model file, and broken things of every sort."""
    root = tmp_path_factory.mktemp("wrong")
    tiny_data.images(root / "data", per_class=6)
    words = ["train", root / "data", "--model", "mlp", "--epochs", "1", "--batch-size", "4", "--out", root / "run"]
    assert main([str(word) for word in words]) == 0
    (root / "empty").mkdir()
    (root / "broken.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{ no JSON")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "broken.json").write_text("{epochs", encoding="utf-8")
    (root / "unknown.json").write_text('{"epoch": 3}', encoding="utf-8")
    (root / "seed.json").write_text('{"seed": "abc"}')
    (root / "note.txt").write_text("hello", encoding="utf-8")
    one = root / "one" / "only"
    one.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(one / "a.png")
    bad = root / "bad"
    for name in ("x", "y"):
        (bad / name).mkdir(parents=True)
        for number in range(4):
            (bad / name / f"{number}.png").write_bytes(b"no picture")
    np.save(root / "volume.npy", np.zeros((4, 4, 4), np.float32))
    return root


WRONG: dict[str, Wrong] = {
    "unknown command": lambda w: ["trian"],
    "unknown option": lambda w: ["train", w / "data", "--epoch-count", 3],
    "no number": lambda w: ["train", w / "data", "--epochs", "many"],
    "no data": lambda w: ["train"],
    "data that is not there": lambda w: ["train", w / "nothing"],
    "unknown data name": lambda w: ["train", "fashionmnist2"],
    "an empty folder": lambda w: ["train", w / "empty"],
    "a text file": lambda w: ["train", w / "note.txt"],
    "only unreadable pictures": lambda w: ["train", w / "bad", "--out", w / "never"],
    "unknown model": lambda w: ["train", w / "data", "--model", "resnet21"],
    "epochs of zero": lambda w: ["train", w / "data", "--epochs", 0, "--out", w / "never"],
    "negative lr": lambda w: ["train", w / "data", "--lr", -1, "--out", w / "never"],
    "unknown optimizer": lambda w: ["train", w / "data", "--optimizer", "sdg", "--out", w / "never"],
    "unknown schedule": lambda w: ["train", w / "data", "--schedule", "cosin", "--out", w / "never"],
    "unknown augmentation": lambda w: ["train", w / "data", "--augment", "flipp", "--out", w / "never"],
    "unknown mix": lambda w: ["train", w / "data", "--mix", "shake", "--out", w / "never"],
    "class weights for other classes": lambda w: [
        "train",
        w / "data",
        "--class-weights",
        "1,2,3",
        "--out",
        w / "never",
    ],
    "class weights in words": lambda w: ["train", w / "data", "--class-weights", "much"],
    "unknown engine": lambda w: ["train", w / "data", "--engine", "cuda", "--out", w / "never"],
    "size in words": lambda w: ["train", w / "data", "--size", "large"],
    "size of zero": lambda w: ["train", w / "data", "--size", "0"],
    "validation of everything": lambda w: ["train", w / "data", "--val-fraction", "1.5"],
    "freeze what is not there": lambda w: ["train", w / "data", "--freeze", "stage9", "--out", w / "never"],
    "another policy of batch norm": lambda w: ["train", w / "data", "--batch-norm", "moving"],
    "a run that is there already": lambda w: ["train", w / "data", "--out", w / "run"],
    "a run folder that is a file": lambda w: ["train", w / "data", "--out", w / "note.txt"],
    "config that is not there": lambda w: ["train", w / "data", "--config", w / "no.json"],
    "config that is no JSON": lambda w: ["train", w / "data", "--config", w / "broken.json"],
    "config with a seed in words": lambda w: ["train", w / "data", "--config", w / "seed.json"],
    "config with a misspelt name": lambda w: ["train", w / "data", "--config", w / "unknown.json"],
    "resume what is no run": lambda w: ["train", "--resume", w / "data"],
    "resume with another recipe": lambda w: ["train", "--resume", w / "run", "--epochs", 9],
    "evaluate what is no model": lambda w: ["evaluate", w / "note.txt", w / "data"],
    "evaluate a folder that is no run": lambda w: ["evaluate", w / "empty", w / "data"],
    "evaluate a missing split": lambda w: ["evaluate", w / "run", w / "data", "--split", "holdout"],
    "evaluate other classes": lambda w: ["evaluate", w / "run", w / "one"],
    "a broken model file": lambda w: ["evaluate", w / "broken.safetensors", w / "data"],
    "predict without files": lambda w: ["predict", w / "run"],
    "predict a missing file": lambda w: ["predict", w / "run", w / "no.png"],
    "predict a broken picture": lambda w: ["predict", w / "run", w / "broken.png"],
    "predict an empty folder": lambda w: ["predict", w / "run", w / "empty"],
    "predict the wrong kind": lambda w: ["predict", w / "run", w / "volume.npy"],
    "top-k of zero": lambda w: ["predict", w / "run", w / "data", "--top-k", 0],
    "threads of zero": lambda w: ["predict", w / "run", w / "data", "--threads", 0],
    "summary of nothing": lambda w: ["summary", "lenet6"],
    "summary of a broken file": lambda w: ["summary", w / "broken.safetensors"],
    "a shape in words": lambda w: ["summary", "lenet5", "--input-shape", "28by28"],
    "a shape that does not fit": lambda w: ["summary", "lenet5", "--input-shape", "4,4,1"],
    "classes of a trained model": lambda w: ["summary", w / "run", "--classes", 3],
    "doctor of nothing": lambda w: ["doctor", w / "no.safetensors"],
    "check what is not there": lambda w: ["data", "check", w / "nothing"],
    "get what nobody knows": lambda w: ["data", "get", "imagenet22k"],
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_gets_one_line(case: str, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([str(word) for word in WRONG[case](world)])
    out, err = capsys.readouterr()
    complaints = [line for line in err.splitlines() if line.startswith("[")]
    assert code == 2
    assert len(complaints) == 1, err
    assert err.splitlines()[-1] == complaints[0]  # whatever was announced before, the complaint is the last word
    assert "Traceback" not in err
    assert len(complaints[0]) < 600
    assert out == ""
    assert not (world / "never").exists()


def test_options_are_refused_before_data_are_read(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(world / "nothing"), "--precision", "int8"]) == 2
    assert capsys.readouterr().err.startswith("[precision]")


def test_json_stays_json_when_something_is_wrong(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", world / "run", world / "data" / "test" / "red", world / "broken.png", "--json"]
    assert main([str(word) for word in words]) == 2
    assert len(json.loads(capsys.readouterr().out)) == 4


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    """A real signal in the middle of a real training."""
    tiny_data.images(tmp_path / "data")
    words = ["train", "data", "--model", "mlp", "--epochs", "100000", "--out", "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fovea", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job ignores it
    )
    while not (tmp_path / "run" / "checkpoints" / "last.safetensors").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "fovea train --resume run" in err
    assert "Traceback" not in err


def test_a_closed_pipe_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    answer = subprocess.run(
        [sys.executable, "-m", "fovea", "models"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert answer.stderr == ""
    assert answer.returncode == 1


def test_a_full_or_forbidden_disk_is_one_line(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "file").write_bytes(b"")
    assert main(["train", str(world / "data"), "--epochs", "1", "--out", str(world / "file" / "run")]) == 2
    assert "Traceback" not in capsys.readouterr().err
