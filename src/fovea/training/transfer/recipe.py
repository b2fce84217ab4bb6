"""How a plan is trained: what stays frozen, how fast each depth learns, and defaults that do no harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fovea.engines.spec import match_paths
from fovea.errors import ConfigError
from fovea.graph.depth import blocks, depth_scales, prefixes
from fovea.graph.head import find_head
from fovea.model import Model
from fovea.ops.base import is_number
from fovea.ops.optimizer import AdamW
from fovea.training.config import TrainConfig, checked_names
from fovea.training.prepare import default_batch
from fovea.training.stages import Stages
from fovea.training.transfer.plan import Plan

__all__ = ["checked_options", "config_for", "enough_epochs", "frozen_paths"]

LRS = {"adamw": (1e-4, 1e-3), "sgd": (1e-3, 1e-2)}
"""For similar data a tenth and less of what training from scratch takes, so that what was learned stays near: small
enough also for networks whose batch norm is folded into their weights, which nothing keeps in range. For different data
ten times that: more has to change."""
LR_DEPTH = (0.1, 1.0)
"""Factor of the learning rate at the first block, for similar data and for different ones."""
EPOCHS, UPDATES = (10, 30), 40
"""Of fine-tuning, for similar data and for different ones; or as many as give so many updates."""
FINETUNE: dict[str, Any] = {"optimizer": "adamw", "clip_norm": 1.0, "keep_start": True}
SCRATCH: dict[str, Any] = {"epochs": 20}
PROBE: dict[str, Any] = {"epochs": 0, "keep_start": True}
_TRAINING = ("epochs", "lr", "optimizer", "schedule", "warmup_epochs", "patience", "mix", "anchor")
_OURS = {"trainable": "freeze", "keep_start": "plan", "unfreeze": "gradual"}


def checked_options(options: Mapping[str, Any], seed: int) -> None:
    """Raise ConfigError for what is no option of training, or makes no sense, before anything is read."""
    for name, instead in _OURS.items():
        if name in options:
            raise ConfigError("finetune", f"expected {instead}= in place of {name}=, got {options[name]!r}")
    TrainConfig(**{**checked_names("finetune", options), "seed": seed})


def frozen_paths(
    model: Model, freeze: Sequence[str] | None = None, freeze_depth: float | None = None
) -> tuple[str, ...]:
    """Parameter paths that stay as they are, in the network's order.

    ``freeze``: paths, prefixes or patterns; ``freeze_depth``: an integer counts blocks from the input on, a float is a
    share of them; the class layer always trains. Raises ConfigError, GraphError for a pattern that matches nothing.
    """
    own = list(model.store.parameters)
    chosen = set(match_paths(own, freeze)) if freeze else set()
    if freeze_depth is not None:
        nodes = _first_blocks(model, freeze_depth)
        chosen |= {path for path in own if path.rpartition(".")[0] in nodes}
    if len(chosen) == len(own):
        raise ConfigError("freeze", "expected something left to train, got everything frozen; the plan probe does that")
    return tuple(path for path in own if path in chosen)


def _first_blocks(model: Model, depth: float) -> set[str]:
    """Names of the nodes in the first blocks, without the class layer."""
    all_blocks = blocks(model.graph)
    most = len(all_blocks)
    share = isinstance(depth, float)
    if not is_number(depth) or not 0 <= depth <= (1 if share else most):
        raise ConfigError(
            "freeze_depth",
            f"expected a number of blocks up to {most}, or a share of them from 0.0 to 1.0, got {depth!r}; choose one",
        )
    count = round(depth * most) if share else int(depth)
    return {name for block in all_blocks[:count] for name in block} - {find_head(model.graph).node}


def enough_epochs(usual: int, updates: int, samples: int, batch_size: int) -> int:
    """The usual number of epochs, or more where so many samples would make fewer than ``updates`` of the weights."""
    return max(usual, -(-updates // max(1, samples // batch_size)))


def config_for(
    plan: Plan, model: Model, samples: int, frozen: Sequence[str], lr_depth: float | None, options: Mapping[str, Any],
    gradual: bool = False,
) -> TrainConfig:  # fmt: skip
    """The training that a plan asks for, on so many samples; ``options`` go before its defaults. Raises ConfigError.

    With ``batch_norm="frozen"``, the default, fine-tuning leaves weight and bias of every batch norm as they are, so
    that all run on the statistics that they have, as at inference. ``gradual``: blocks join from the head to the input
    over the first half of the epochs. With ``anchor`` weights are pulled to their start and no longer to zero.
    """
    if plan.name.startswith("probe"):
        given = next((name for name in _TRAINING if options.get(name) is not None), None)
        if given is not None or frozen or lr_depth is not None or gradual:
            raise ConfigError(
                given or ("freeze" if frozen else "gradual" if gradual else "lr_depth"),
                f"expected none with the plan {plan.name}, which is solved and not trained; leave it out, or take the "
                "plan finetune",
            )
        return TrainConfig(**{**options, **PROBE})
    if plan.name == "scratch":
        config = TrainConfig(**{**SCRATCH, **options})
    else:
        batch = min(options.get("batch_size") or default_batch(samples), samples)
        epochs = options.get("epochs") or enough_epochs(EPOCHS[plan.different], UPDATES, samples, batch)
        chosen = {"epochs": epochs, "patience": max(5, epochs // 4), **FINETUNE}
        chosen |= {"weight_decay": 0.0} if options.get("anchor") else {}
        config = TrainConfig(**{**chosen, **options})
        if config.lr is None:
            known = LRS["adamw" if isinstance(config.optimizer, AdamW) else "sgd"]
            config = replace(config, lr=known[plan.different])
    norms = {path for node in model.graph.nodes.values() if node.op.kind == "batchnorm" for path in node.parameters}
    keeps = norms if plan.name == "finetune" and config.batch_norm == "frozen" else set()
    if frozen or keeps:
        still = {*frozen, *keeps}
        config = replace(config, trainable=tuple(path for path in model.store.parameters if path not in still))
    if gradual:
        config = replace(config, unfreeze=_joining(model, config.epochs))
    scales = _scales(plan, model, lr_depth)
    if scales and not config.optimizer.lr_scales:
        config = replace(config, optimizer=replace(config.optimizer, lr_scales=scales))
    return config


def _joining(model: Model, epochs: int) -> Stages:
    """Blocks that are frozen at first, and after how many epochs they join: the last one soon, the first when half of
    the epochs are done (Howard and Ruder 2018, "Universal language model fine-tuning", section 3.3)."""
    head, all_blocks = find_head(model.graph).node, blocks(model.graph)
    below = [block for block in reversed(all_blocks) if head not in block]
    joins = [round((place + 1) / len(below) * (epochs // 2)) for place in range(len(below))]
    return tuple((join, prefixes(all_blocks, block)) for join, block in zip(joins, below, strict=True) if join)


def _scales(plan: Plan, model: Model, lr_depth: float | None) -> tuple[tuple[str, float], ...]:
    lowest = (1.0 if plan.name == "scratch" else LR_DEPTH[plan.different]) if lr_depth is None else lr_depth
    if not is_number(lowest) or not 0 < lowest <= 1:
        raise ConfigError("lr_depth", f"expected a number above 0 and at most 1, got {lowest!r}; 1 is no difference")
    return depth_scales(blocks(model.graph), float(lowest))
