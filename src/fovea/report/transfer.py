"""The section about transfer learning: what was measured, which plan followed, who won, accuracy by images a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fovea.report.depth import depth_curve
from fovea.report.figures import draw
from fovea.report.page import Section, keys, percent, table, text
from fovea.report.style import COLOURS
from fovea.tasks.metrics import share_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fovea.run import Run

__all__ = ["shot_figure", "transfer", "verdict"]

_METHODS = {
    "finetune": ("fine-tuned", "accent", "o"),
    "probe": ("linear probe", "second", "s"),
    "scratch": ("from scratch", "muted", "^"),
}
"""Name, colour and marker of each curve."""


def verdict(run: Run) -> list[str]:
    """How good the result is and what won, in sentences; empty for a run that is no transfer or not finished."""
    about, metrics = (run.config.get("record") or {}).get("transfer"), run.metrics
    found = (metrics or {}).get("val") or {}
    if not isinstance(about, Mapping) or not metrics or "accuracy" not in found:
        return []
    count = sum(map(sum, found["confusion"]))
    right = round(found["accuracy"] * count)
    low, high = share_interval(right, count)
    said = [
        f"{right} of {count} validation images are right: {percent(found['accuracy'])}, with 95 % confidence between "
        f"{percent(low, 1)} and {percent(high, 1)} of all such images."
    ]
    probe = about.get("probe") or {}
    if probe.get("accuracy") is not None:
        said.append(
            f"On training images that were held out in {probe['folds']} folds, the probe is right on "
            f"{percent(probe['accuracy'], 1)} (+- {percent(probe['spread'], 1)} between folds)."
        )
    said += _winner(run, about, metrics, right, count)
    if count < 50:
        said.append(f"{count} images say little: keep more for validation, or trust the folds rather.")
    return said


def _winner(run: Run, about: Mapping[str, Any], metrics: Mapping[str, Any], right: int, count: int) -> list[str]:
    """Probe against fine-tuning, where both were tried."""
    start = next((line for line in run.log if line.get("event") == "start"), None)
    if start is None or not metrics.get("epochs"):
        return []
    first = "probe" if about.get("probe") else "network's own head"
    before, epochs = round(start["val_accuracy"] * count), metrics["epochs"]
    if not metrics["best_epoch"]:
        return [f"The {first} won: none of {epochs} epochs of fine-tuning was better on validation, so it was kept."]
    best = f"epoch {metrics['best_epoch']} of {epochs}"
    if right == before:
        return [f"Fine-tuning ({best}) and the {first} are right equally often; the loss decided for fine-tuning."]
    return [
        f"Fine-tuning won: {best} is right on {right - before} more than the {first}, which is right on {before}. The "
        f"best of {epochs + 1} results on the same images looks a little better than it is."
    ]


def transfer(run: Run) -> list[Section]:
    """The section of a fine-tuned run, in a list; nothing for other runs."""
    about = (run.config.get("record") or {}).get("transfer")
    if not isinstance(about, Mapping):
        return []
    plan, measured = about.get("plan") or {}, about.get("measured")
    sentences = [f"Plan {plan.get('name')}, chosen by {_chooser(plan)}: {plan.get('why')}.", *verdict(run)]
    body = "".join(f"<p>{text(sentence)}</p>" for sentence in sentences)
    figures = []
    if measured:
        body += "<h3>What was measured before</h3>"
        body += "".join(f"<p>{text(one[:1].upper() + one[1:])}.</p>" for one in plan.get("measured") or [])
        figures.append(f'<figure class="broad">{_by_depth(run, measured, about.get("probe") or {})}</figure>')
    if run.shots:
        caption = f"<figcaption>{text(_shot_words(run.shots))}</figcaption>"
        figures.append(f'<figure class="broad">{shot_figure(run.shots)}{caption}</figure>')
    body += "".join(figures)
    recognition = (measured or {}).get("recognition")
    if recognition:
        body += f"<h3>What the source model takes them for</h3>{_names(recognition)}"
    return [Section("transfer", "Transfer", body + f"<h3>Where it came from</h3>{keys(_facts(about))}")]


def _chooser(plan: Mapping[str, Any]) -> str:
    return {"you": "the caller", "adviser": "what was measured"}.get(str(plan.get("decided_by")), "default")


def _by_depth(run: Run, measured: Mapping[str, Any], probe: Mapping[str, Any]) -> str:
    depths = measured["depths"]
    layers = [(str(one["layer"]), int(one["size"])) for one in depths]
    held = [(_number(one["accuracy"]), _number(one["spread"])) for one in depths]
    splits = (run.config.get("data") or {}).get("splits") or {}
    words = (f"{splits.get('train')} training images, held out in folds", f"{splits.get('val')} validation images")
    title = "accuracy of a linear probe by depth, %"
    return depth_curve("transfer-depth", title, layers, held, [one["val"] for one in depths], words, probe.get("layer"))


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _names(recognition: Mapping[str, Any]) -> str:
    rows = [
        (name, ", ".join(f"{source} ({percent(share, 0)})" for source, share in places))
        for name, places in list(recognition["names"].items())[:40]
    ]
    return table(["class", "named most often"], rows, left=2, wide=False)


def _facts(about: Mapping[str, Any]) -> dict[str, Any]:
    head = f"its own, right on {percent(about['own_head'], 1)} of training images" if "own_head" in about else ""
    return {
        "source": about.get("source") or {},
        "head": about.get("probe") or head or "fresh",
        "left out": "; ".join(about.get("left_out") or []),
        "frozen": about.get("frozen") or [],
        "batch norm": about.get("batch_norm"),
        "notes": "; ".join(about.get("notes") or []),
    }


def shot_figure(found: Mapping[str, Any], name: str = "transfer-shots") -> str:
    """An SVG element: accuracy on validation over the number of images a class, with 95 % intervals, for each method.

    ``found``: what ``fovea.training.shot_curves`` returns. The budget stands in the figure where it left points out.
    """
    shots: list[Any] = []
    for points in found["methods"].values():
        shots += [point["shots"] for point in points if point["shots"] not in shots]
    shots.sort(key=lambda one: (one == "all", one if one != "all" else 0))

    gaps = " and ".join(_METHODS[method][0] for method in found.get("left_out") or {})
    note = f"\n{gaps}: not all points, the budget was {found['budget']:g} s" if gaps else ""

    def paint(axes: Axes) -> None:
        for shift, (method, (label, colour, marker)) in enumerate(_METHODS.items()):
            points = found["methods"].get(method) or []
            if not points:
                continue
            place = np.array([shots.index(point["shots"]) for point in points]) + 0.06 * (shift - 1)
            mean, low, high = (100 * np.array([point[key] for point in points]) for key in ("mean", "low", "high"))
            low, high = np.clip(low, 0, 100), np.clip(high, 0, 100)
            axes.errorbar(
                place, mean, np.maximum([mean - low, high - mean], 0), color=COLOURS[colour], marker=marker,
                markersize=4.5, linewidth=1.6, elinewidth=1.0, capsize=2.5, label=label,
            )  # fmt: skip
        axes.set_xticks(range(len(shots)), [str(one) for one in shots])
        axes.set_xlim(-0.4, len(shots) - 0.6)
        axes.set(xlabel=f"training images of each class{note}", title="accuracy on validation, %")
        axes.legend(loc="lower right")

    return draw(name, paint, (5.2, 3.4))


def _shot_words(found: Mapping[str, Any]) -> str:
    words = (
        f"{found['validation']} validation images, {found['seeds']} draws of the training images; bars: 95 % intervals "
        "of the mean over draws (Student's t), of a single value that of the validation sample (Wilson). Nothing was "
        f"chosen on validation. Fine-tuning and training from scratch took {found['seconds']:.0f} s, with a budget of "
        f"{found['budget']:g} s."
    )
    missing: Mapping[str, Sequence[str]] = found.get("left_out") or {}
    gaps = "; ".join(f"{_METHODS[method][0]} at {', '.join(names)}" for method, names in missing.items())
    return words + (f" Left out by the budget: {gaps}." if missing else "")
