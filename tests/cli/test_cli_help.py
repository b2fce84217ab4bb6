"""Help: every command has an example, and the examples work; the program starts quickly and quietly."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from PIL import Image

import fovea
from fovea.cli import main
from fovea.cli.app import app
from tests.detect.square_finder import finder

COMMANDS = [
    "demo",
    "train",
    "evaluate",
    "predict",
    "detect",
    "classmap",
    "explain",
    "import",
    "export",
    "verify",
    "quantize",
    "summary",
    "finetune",
    "models",
    "bench",
    "doctor",
    "data",
    "data check",
    "data get",
    "data shard",
    "",
]


def example(command: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The words of the example in a command's help."""
    assert main([*command.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert "Example: fovea" in out, out
    return shlex.split(" ".join(out.partition("Example: ")[2].split()))


def test_lists_of_commands_are_not_cut_short(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["data"]):
        assert main([*words, "--help"]) == 0
        assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


def test_the_list_of_commands_is_whole() -> None:
    group = typer.main.get_command(app)
    names = set(group.commands)  # type: ignore[attr-defined]  # a group has commands
    assert names | {""} == {command.split()[0] if command else "" for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = example(command, capsys)
    assert words[0] == "fovea"
    assert words[1 : 1 + len(command.split())] == command.split() or not command


def test_the_examples_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    onnx = pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fovea.cli.doctor._SECONDS", 0.01)
    Image.new("L", (8, 8), 40).save("picture.png")
    finder().save("cells.safetensors")
    network = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,3,8,8] x) => (y) {y = Relu(x)}'
    )
    onnx.save(network, "net.onnx")
    for command in COMMANDS[1:-1]:  # the demo has a test of its own
        words = example(command, capsys)
        assert main(words[1:]) in (0, 1 if command.startswith("data") else 0), words
    assert (tmp_path / "runs" / "digits" / "report.html").exists()


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What `make demo` promises: at least 98 % of held-out digits, a model file, a report, what to try next."""
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    accuracy = float(out.partition("held-out digits: ")[2].partition("%")[0])
    assert accuracy >= 98.0
    assert "epoch 1/" in err
    assert "try next" in out
    for name in ("model.safetensors", "report.html", "digit.png"):
        assert (tmp_path / "runs" / "demo" / name).exists()
    assert main(["demo", "--out", "runs/demo"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_arguments_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    code = main([])
    out, err = capsys.readouterr()
    assert code == 0
    assert "Usage: fovea" in out + err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fovea {fovea.__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from fovea.cli import main; main(['--help']); heavy = {'numpy', 'rich', 'PIL', 'matplotlib'}; "
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stderr.strip() == "[]"


def test_python_m_fovea() -> None:
    answer = subprocess.run([sys.executable, "-m", "fovea", "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("fovea ")
