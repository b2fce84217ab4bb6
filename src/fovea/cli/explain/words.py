"""Which options belong to which mode of ``fovea explain``: what the mode does not read is refused, never ignored."""

from __future__ import annotations

from collections.abc import Sequence

from fovea.errors import ConfigError

__all__ = ["checked"]

_MODES: dict[str, tuple[str, tuple[str, ...]]] = {
    "--report": ("--report PAGE.html", ("--data", "--seconds", "--seed")),
    "--shift": ("--shift", ("--data", "--seed")),
    "--maps": ("--maps NODE", ()),
    "--filters": ("--filters NODE", ()),
    "--channels": ("--channels DATA", ("--layer",)),
    "--probes": ("--probes DATA", ("--seed",)),
    "--exciting": ("--exciting NODE", ("--data", "--channel", "--top-k")),
    "--embedding": ("--embedding pca", ("--data", "--layer", "--seed")),
    "--visualise": ("--visualise", ("--target", "--channel", "--neuron", "--at", "--count", "--steps", "--seed")),
    "--dream": ("--dream NODE", ("--channel", "--steps", "--seed")),
    "--invert": ("--invert NODE", ("--steps", "--seed")),
    "--adversarial": ("--adversarial", ("--target", "--epsilon", "--steps", "--seed")),
    "--arithmetic": (
        "--arithmetic NODE", ("--target", "--at", "--channel", "--backward", "--weight", "--batch-statistics"),
    ),
    "--trust": ("--trust", ("--method", "--layer", "--target", "--score", "--baseline", "--box", "--seed")),
    "": ("", ("--method", "--layer", "--target", "--score", "--baseline", "--box", "--seed")),
}  # fmt: skip
"""How a mode is written, and the options that it reads; the empty one explains a picture by attribution."""
_EVERYWHERE = ("--engine", "--out", "--threads", "--json")
_NO_ENGINE = ("--shift", "--filters")
"""Modes that read weights, or run networks as ``fovea predict`` does."""
_NO_IMAGE = ("--filters", "--channels", "--exciting", "--embedding", "--probes", "--visualise")
"""Modes that look at the network alone or at a whole data set."""
_WITHIN = {
    "--at": {"--visualise": "--neuron"}, "--weight": {"--arithmetic": "--backward"},
    "--target": {"--arithmetic": "--backward"},
}  # fmt: skip
"""Options that a mode reads beside another of its options alone."""
_HOMES = {"--at": "--arithmetic", "--channel": "--arithmetic", "--data": "--report", "--steps": "--visualise"}
"""Of an option that several modes read, the one that is named."""


def checked(given: Sequence[str], images: int) -> None:
    """Whether the options, as they were given, and so many images make up one wish. Raises ConfigError."""
    modes = [option for option in given if option in _MODES]
    if len(modes) > 1:
        raise ConfigError("explain", f"expected one of {' and '.join(modes)}, got both; ask one after the other")
    mode = modes[0] if modes else ""
    if images and mode in _NO_IMAGE:
        raise ConfigError(
            mode, f"expected no IMAGE beside it, got {images}; leave {'it' if images == 1 else 'them'} out"
        )
    for option in given:
        if option == "--engine" and mode in _NO_ENGINE:
            raise ConfigError(option, f"expected it without {mode}, which does not read it; leave it out")
        if option in modes or option in _EVERYWHERE:
            continue
        if option not in _MODES[mode][1]:
            raise ConfigError(option, _elsewhere(option, mode))
        partner = _WITHIN.get(option, {}).get(mode)
        if partner is not None and partner not in given:
            raise ConfigError(option, f"expected {partner} beside it, got {mode} alone; add it, or leave this out")


def _elsewhere(option: str, mode: str) -> str:
    """Where an option belongs that the mode does not read."""
    homes = [name for name, (_, read) in _MODES.items() if option in read]
    home = _HOMES.get(option, homes[0])
    if "" in homes:  # of a picture explained
        return f"expected it without {mode}, which does not read it; leave one of them out"
    instead = f"{mode}, which does not read it" if mode else "none"
    return f"expected {_MODES[home][0]} beside it, got {instead}; leave it out, or ask for that"
