"""Networks of signals and volumes in PyTorch with the same weights: methods against Captum's."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from fovea import explain
from tests.explain.attribution_nets import ENGINES, numbers
from tests.explain.test_attribution_axes import SHAPES, network

torch = pytest.importorskip("torch")
pytest.importorskip("captum")


def twin_of(kind: str) -> Any:
    """The same network with the same numbers."""
    from torch import nn

    from fovea.bench.twins import buffer_pairs, load_weights

    model, axes = network(kind), len(SHAPES[kind]) - 1
    conv, norm, pool, mean = (
        getattr(nn, f"{name}{axes}d") for name in ("Conv", "BatchNorm", "MaxPool", "AdaptiveAvgPool")
    )
    twin = nn.Sequential(
        conv(2, 6, 3, padding=1, bias=False), norm(6), nn.ReLU(), pool(2), conv(6, 5, 3, padding=1), nn.ReLU(), mean(1),
        nn.Flatten(), nn.Linear(5, 3),
    ).eval()  # fmt: skip
    load_weights(model.graph, model.parameters(), twin)
    with torch.no_grad():
        for path, buffer in buffer_pairs(model.graph, twin):
            buffer.copy_(torch.from_numpy(model.buffers()[path]))
    return twin


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", list(SHAPES))
@pytest.mark.parametrize("name", ["gradient", "guided_backprop", "integrated_gradients", "grad_cam"])
def test_the_same_as_captum(kind: str, name: str, engine: str) -> None:
    """Its integral takes n places with weights 1 / n, 1 / 2n at the ends; ours are n - 1 steps of 1 / (n - 1)."""
    from captum import attr

    x, twin = numbers(2, *SHAPES[kind]), twin_of(kind)
    make = {
        "gradient": lambda: attr.Saliency(twin), "guided_backprop": lambda: attr.GuidedBackprop(twin),
        "integrated_gradients": lambda: attr.IntegratedGradients(twin),
        "grad_cam": lambda: attr.LayerGradCam(twin, twin[5]),
    }[name]  # fmt: skip
    theirs: dict[str, Any] = {
        "gradient": {"abs": False}, "integrated_gradients": {"n_steps": 33, "method": "riemann_trapezoid"},
        "grad_cam": {"relu_attributions": True},
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its own hooks
        given = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_()
        answer = make().attribute(given, target=torch.tensor([2, 0]), **theirs.get(name, {}))
    peer = np.moveaxis(answer.detach().numpy(), 1, -1) * (33 / 32 if name == "integrated_gradients" else 1)
    options = {"integrated_gradients": {"steps": 32, "tolerance": None}}.get(name, {})
    own = np.stack([one.raw for one in explain.attributions(network(kind), x, name, [2, 0], engine=engine, **options)])
    peer = peer[..., 0] if name == "grad_cam" else peer
    assert own.shape == peer.shape
    assert np.ptp(peer) > 0
    np.testing.assert_allclose(own, peer, atol=1e-4 * np.abs(peer).max())
