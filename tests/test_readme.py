"""Every example in README.md and docs/ runs, and every link between pages leads somewhere.

A ```python block runs; the blocks of one page run in order, in one namespace and one empty folder. In a ```console
block the lines `$ fovea ...` run in that folder too (a backslash continues a line). Blocks marked ```python no-run or
```console no-run, because they need outside data or minutes, are read only.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^`]*)$")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
SECONDS = 300  # nobody waits longer for an example; a hanging one must not hang the tests


@dataclass(frozen=True)
class Block:
    """A fenced block: language, what follows it on the fence, its lines and the number of the first one."""

    language: str
    mark: str
    lines: tuple[str, ...]
    first_line: int

    @property
    def runs(self) -> bool:
        """Whether the tests execute it."""
        return self.mark != "no-run"


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    opening: re.Match[str] | None = None
    lines: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if opening is None and fence:
            opening, lines, start = fence, [], number + 1
        elif opening is not None and fence and not fence["info"].strip():
            language, _, mark = opening["info"].strip().partition(" ")
            found.append(Block(language, mark.strip(), tuple(lines), start))
            opening = None
        elif opening is not None:
            lines.append(line.removeprefix(opening["indent"]))
    assert opening is None, f"a block that opens at line {start - 1} never ends"
    return found


def commands(block: Block) -> list[list[str]]:
    """The fovea command lines of a console block, split as a shell splits them."""
    text = "\n".join(block.lines).replace("\\\n", " ")
    return [shlex.split(line[2:], comments=True) for line in text.splitlines() if line.startswith("$ fovea")]


def run_python(block: Block, page: Path, namespace: dict[str, object]) -> None:
    """Execute a block under its own file name and line numbers, so that a traceback points into the page."""
    source = "\n" * (block.first_line - 1) + "\n".join(block.lines)
    exec(compile(source, str(page), "exec"), namespace)


def run_command(words: list[str], folder: Path) -> None:
    """Execute one command line with the fovea of this Python."""
    program = Path(sys.executable).with_name(words[0])
    answer = subprocess.run(
        [str(program), *words[1:]], cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert answer.returncode == 0, f"$ {shlex.join(words)}\n{answer.stdout}{answer.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("FOVEA_CACHE", str(tmp_path / "cache"))
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language in {"python", "console"}:
            assert block.mark in {"", "no-run"}, f"line {block.first_line}: ```{block.language} {block.mark}"
        if block.language == "python" and block.runs:
            run_python(block, page, namespace)
        elif block.language == "python":
            ast.parse("\n".join(block.lines))  # not run, but still Python
        elif block.language == "console" and block.runs:
            for words in commands(block):
                run_command(words, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    targets = [match["target"].partition("#")[0] for match in LINK.finditer(text)]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_blocks_are_found_with_their_marks() -> None:
    text = "a\n```python\nx = 1\n```\n\n- item\n\n  ```console no-run\n  $ fovea a \\\n    --b 'c d'\n  out\n  ```\n"
    found = blocks(text)
    assert found == [
        Block("python", "", ("x = 1",), 3),
        Block("console", "no-run", ("$ fovea a \\", "  --b 'c d'", "out"), 9),
    ]
    assert [block.runs for block in found] == [True, False]
    assert commands(found[1]) == [["fovea", "a", "--b", "c d"]]


def test_a_failing_example_points_at_its_line(tmp_path: Path) -> None:
    block = Block("python", "", ("x = 1", "x / 0"), 41)
    with pytest.raises(ZeroDivisionError) as error:
        run_python(block, tmp_path / "page.md", {})
    assert error.traceback[-1].lineno == 41  # pytest counts from 0: line 42
