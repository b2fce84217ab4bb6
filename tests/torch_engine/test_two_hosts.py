"""Two hosts that see each other over a network of their own: namespaces of this machine, where they may be made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from fovea.run import Run
from tests.conftest import ROOT
from tests.torch_engine.several import train

ADDRESSES = ("10.213.7.1", "10.213.7.2")


def ip(*words: str) -> None:
    """Change the network; skips the test, with the reason, where that is not allowed."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"network namespaces cannot be made here: {done.stderr.strip()}")


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """The names of two namespaces, joined by a cable."""
    if shutil.which("ip") is None:
        pytest.skip("network namespaces cannot be made here: there is no program ip")
    names = [f"fovea{os.getpid()}{end}" for end in "ab"]
    cables = [f"v{os.getpid()}{end}" for end in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", cables[0], "netns", names[0], "type", "veth", "peer", "name", cables[1], "netns", names[1])
        for name, cable, address in zip(names, cables, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.mark.slow
def test_two_hosts_train_as_one_process(hosts: list[str], tmp_path: Path) -> None:
    surrounding = {**os.environ, "OMP_NUM_THREADS": "1", "FOVEA_THREADS": "1"}
    surrounding["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    started = []
    for host, address in zip(hosts, ADDRESSES, strict=True):
        cable = f"v{host.removeprefix('fovea')}"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
        meeting = ["--rdzv-backend=c10d", "--rdzv-id=two", f"--rdzv-endpoint={ADDRESSES[0]}:29400"]
        meeting.append(f"--rdzv-conf=is_host={int(address == ADDRESSES[0])}")
        words = [f"--local-addr={address}", "-m", "tests.torch_engine.several", str(tmp_path), "plain"]
        started.append(
            subprocess.Popen(
                ["ip", "netns", "exec", host, *launcher, *meeting, *words],
                env={**surrounding, "GLOO_SOCKET_IFNAME": cable},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
    try:
        said = [one.communicate(timeout=300)[0] for one in started]
    finally:
        for one in started:
            one.kill()
    assert [one.returncode for one in started] == [0, 0], said
    together = Run(tmp_path / "plain")
    assert together.config["processes"] == 2
    alone = train(tmp_path / "alone", "plain")
    np.testing.assert_allclose(
        together.history("loss", event="step"), alone.history("loss", event="step"), rtol=2e-5, atol=1e-6
    )
