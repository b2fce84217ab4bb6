"""Random networks on every side. A failure names its seed; ``python -m tests.fuzz SEED`` repeats and shrinks it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

pytest.importorskip("onnxruntime", reason="exports are run in onnxruntime")
torch = pytest.importorskip("torch", reason="PyTorch is the oracle of gradients")

from tests.fuzz.compare import check  # noqa: E402  # both of them need what may be missing
from tests.fuzz.generator import draw  # noqa: E402

A_PIECE = 20
IN_CI, IN_ALL = 300, 10_000


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """These tensors are small: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(seeds: range) -> Counter[str]:
    """How many networks were compared in each way."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        try:
            counts.update(check(draw(seed)))
        except Exception as error:
            raise AssertionError(f"random network {seed}: {error}\nrepeat: python -m tests.fuzz {seed}") from error
    return counts


@pytest.mark.parametrize("start", range(0, IN_CI, A_PIECE))
def test_random_networks(start: int) -> None:
    counts = run(range(start, start + A_PIECE))
    assert counts["gradients"] >= A_PIECE // 2  # elsewhere activations stand on kinks
    assert counts["onnxruntime"] >= A_PIECE // 2  # elsewhere an op has no operator in ONNX


@pytest.mark.slow
@pytest.mark.parametrize("start", range(IN_CI, IN_ALL, 100))
def test_many_random_networks(start: int) -> None:
    run(range(start, min(start + 100, IN_ALL)))
