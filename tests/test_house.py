"""Rules of the house that ruff, mypy and import-linter do not know."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fovea
from tests.conftest import ROOT

FOLDERS = ("src", "native", "tests", "bench", "examples", "docs", ".ci")
CODE = {".py", ".cpp", ".h"}
TEXT = {*CODE, ".md", ".toml", ".txt", ".yml", ".yaml", ".sh", ""}
MAX_LINES = 400

# Written in pieces, so that this file keeps its own rules.
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w./~$}-])/(?:home|root|Users|work|mnt)/\w")

# Loaded by what needs them and never by `import fovea`.
HEAVY = (
    "torch",
    "matplotlib",
    "rich",
    "typer",
    "sklearn",
    "onnx",
    "fastapi",
    "PIL",
    "h5py",
    "pooch",
    "scipy",
    "onnxruntime",
    "openvino",
)


def files(suffixes: set[str]) -> Iterator[Path]:
    """Every file of the project with one of these suffixes."""
    folders = [ROOT / folder for folder in FOLDERS]
    for path in [*ROOT.iterdir(), *(path for folder in folders for path in folder.rglob("*"))]:
        if path.name == ".git":  # in a worktree a file that says where the repository lies
            continue
        if path.is_file() and path.suffix in suffixes and "__pycache__" not in path.parts:
            yield path


def trees(folder: str) -> Iterator[tuple[str, ast.Module]]:
    """Every Python file below a folder, parsed."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def matches(pattern: re.Pattern[str]) -> list[str]:
    """`file:line: text` of every line that the pattern finds."""
    found = []
    for path in files(TEXT):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    return found


def nothing(found: list[str]) -> None:
    """Fail with one line for each thing found."""
    assert not found, "\n" + "\n".join(found)


def modules() -> list[ModuleType]:
    """Every module of the package but the one that runs on import."""
    names = [item.name for item in pkgutil.walk_packages(fovea.__path__, "fovea.")]
    return [fovea, *(importlib.import_module(name) for name in names if not name.endswith("__main__"))]


def test_a_file_is_one_concept() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in files(CODE)}
    nothing([f"{path}: {lines} lines" for path, lines in lengths.items() if lines > MAX_LINES])


def test_nothing_is_left_for_later() -> None:
    nothing(matches(UNFINISHED))


def test_no_path_of_one_machine() -> None:
    nothing(matches(MACHINE_PATH))


@pytest.mark.parametrize(
    ("line", "found"),
    [("open('/home" + "/ada/x')", True), ("cd /work" + "/main", True), ("photos/home/x", False), ("~/work/x", False)],
)
def test_the_path_rule_sees_what_it_should(line: str, found: bool) -> None:
    assert bool(MACHINE_PATH.search(line)) == found


def test_public_things_are_documented() -> None:
    missing = []
    for module in modules():
        if not module.__doc__:
            missing.append(module.__name__)
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(thing):
                missing += undocumented(thing)
            elif inspect.isfunction(thing) and not thing.__doc__:
                missing.append(f"{module.__name__}.{name}")
    nothing(missing)


def undocumented(cls: type) -> list[str]:
    """The class and its public methods without a docstring; a method may inherit that of the base it overrides."""
    where = f"{cls.__module__}.{cls.__qualname__}"
    own = cls.__dict__.get("__doc__") or ""
    missing = [where] if not own or own.startswith(f"{cls.__name__}(") else []  # dataclass writes a signature
    for name, member in cls.__dict__.items():
        is_method = inspect.isfunction(member) or isinstance(member, (property, classmethod, staticmethod))
        if is_method and not name.startswith("_") and not inspect.getdoc(getattr(cls, name)):
            missing.append(f"{where}.{name}")
    return missing


def test_every_public_name_loads() -> None:
    for name in fovea.__all__:
        assert getattr(fovea, name) is not None
    assert set(fovea.__all__) <= set(dir(fovea))
    assert len(fovea.__all__) == len(set(fovea.__all__))
    with pytest.raises(AttributeError, match="no attribute 'Konv'"):
        _ = fovea.Konv


def test_no_public_name_hides_a_package() -> None:
    packages = {item.name for item in pkgutil.iter_modules(fovea.__path__)}
    for name in set(fovea.__all__) & packages:
        assert inspect.ismodule(getattr(fovea, name)), f"fovea.{name} is a module and a public name"


def test_importing_fovea_is_light() -> None:
    program = f"import sys, fovea; print([name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_only_the_native_engine_knows_the_extension() -> None:
    users = []
    for path, tree in trees("src/fovea"):
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            if any(name.split(".")[-1] == "_core" for name in names) and "engines/native/" not in path:
                users.append(path)
    nothing(users)


def test_no_file_can_make_fovea_run_code() -> None:
    """Pickles, eval and exec turn data into code; torch.load is safe only with weights_only=True."""
    found = []
    for path, tree in trees("src/fovea"):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            dangerous = called in {"eval", "exec", "pickle.load", "pickle.loads", "marshal.loads", "pickle.Unpickler"}
            if called == "torch.load":
                dangerous = keywords.get("weights_only") != "True"
            if dangerous or keywords.get("allow_pickle", "False") != "False":
                found.append(f"{path}:{node.lineno}: {called}")
    nothing(found)


@pytest.mark.parametrize("folder", ["src/fovea", "tests"])
def test_randomness_has_a_seed(folder: str) -> None:
    found = []
    for path, tree in trees(folder):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                unseeded = called.endswith("default_rng") and not node.args and not node.keywords
                if unseeded or re.match(r"random\.(random|randint|choice|shuffle|sample)$", called):
                    found.append(f"{path}:{node.lineno}: {called}")
    nothing(found)
