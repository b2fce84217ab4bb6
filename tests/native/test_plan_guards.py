"""Kernels stay inside of their buffers and read nothing that was not written: every buffer alone between guards."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import fovea.ops as ops
from fovea.engines.native import NativeEngine, executable
from fovea.engines.native.memory import Layout
from fovea.engines.native.program import ALIGNMENT, Buffer, Instruction, item_bytes
from tests.engines.engine_list import run_sample
from tests.native.networks import NETWORKS, batch, filled
from tests.op_samples import SAMPLES, Sample

pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")

PATTERN = 0xFF  # two or four of them are a NaN: what is read before it was written shows in the result


@pytest.fixture
def arenas(monkeypatch: pytest.MonkeyPatch) -> list[executable.Executable]:
    """Programs whose buffers share no memory, with a guard behind each; the arenas are filled with the pattern."""
    made: list[executable.Executable] = []

    def apart(instructions: Sequence[Instruction], capacity: int, backward_again: bool) -> Layout:
        buffers = dict.fromkeys(b for one in instructions for b in (*one.ins, *one.outs) if isinstance(b, Buffer))
        offsets, total = {}, ALIGNMENT
        for buffer in buffers:
            offsets[buffer] = total
            total += buffer.bytes(capacity) + ALIGNMENT
        return Layout(offsets, total)

    class Guarded(executable.Executable):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._arena.fill(PATTERN)
            for first, last in gaps(self):
                forbid(self._arena.ctypes.data + first, last - first)
            made.append(self)

    monkeypatch.setattr(executable, "plan_memory", apart)
    monkeypatch.setattr("fovea.engines.native.plan.Executable", Guarded)
    return made


def gaps(program: executable.Executable) -> Iterator[tuple[int, int]]:
    """First byte and end of what lies behind each buffer."""
    for buffer, start in program.layout.offsets.items():
        elements = buffer.elements * (program.capacity if buffer.per_sample else 1)
        yield start + elements * item_bytes(buffer.dtype), start + buffer.bytes(program.capacity) + ALIGNMENT


def forbid(address: int, count: int) -> None:
    """Nothing may touch these bytes from now on: AddressSanitizer watches, where the core runs with it."""
    poison = getattr(ctypes.CDLL(None), "__asan_poison_memory_region", None)
    if poison is not None:
        poison(ctypes.c_void_p(address), ctypes.c_size_t(count))


def check_guards(arenas: list[executable.Executable]) -> None:
    assert arenas
    for program in arenas:
        for (first, last), buffer in zip(gaps(program), program.layout.offsets, strict=True):
            assert (program._arena[first:last] == PATTERN).all(), buffer


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)
def test_samples_between_guards(sample: Sample, arenas: list[executable.Executable]) -> None:
    for training in sample.modes:
        for name, array in run_sample(NativeEngine(), sample, training).items():
            assert np.isfinite(array).all(), name
    check_guards(arenas)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_between_guards(name: str, precision: str, arenas: list[executable.Executable]) -> None:
    graph = NETWORKS[name]()
    options: dict[str, Any] = {"loss": ops.SoftmaxCrossEntropy(), "optimizer": ops.SGD(), "precision": precision}
    plan = NativeEngine().compile(graph, filled(graph), batch_size=5, training=True, **options)
    for step, n in enumerate((5, 3, 1)):
        result = plan.train_step(*batch(graph, n, step), lr=0.01, step=step)
        assert np.isfinite(result.loss)
        assert np.isfinite(result.grad_norm)
    inference = NativeEngine().compile(graph, filled(graph), batch_size=5, precision=precision)
    assert np.isfinite(inference.forward(batch(graph, 2)[0])).all()
    check_guards(arenas)
