"""The training loop: epochs of steps, an evaluation after each, and checkpoints to continue from bit for bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fovea
from fovea import progress
from fovea.data.dataset import Batch, Dataset
from fovea.data.loader import Loader, loader_for
from fovea.engines.base import Engine, Plan
from fovea.engines.world import World
from fovea.graph.serialize import remove_leftovers
from fovea.model import Model
from fovea.ops.base import Shape
from fovea.run import BEST_FILE, CHECKPOINTS, LAST_FILE, METRICS_FILE, MODEL_FILE
from fovea.training import nonfinite
from fovea.training.checkpoint import Averaged, State, graph_digest, read_checkpoint, write_checkpoint
from fovea.training.config import TrainConfig
from fovea.training.evaluation import evaluation_plan, outputs_of, own_share, with_weights
from fovea.training.prepare import Recipe, data_identity, recipe_for
from fovea.training.recorder import Log, write_json
from fovea.training.share import check_room, own_positions
from fovea.training.stages import Anchor, trainable_at
from fovea.training.step import gradients_of

__all__ = ["Callback", "Loop"]

Callback = Callable[[Mapping[str, Any]], Any]
"""Called with each line of the log; when it returns True, training ends with the current epoch."""


class Loop:
    """One training of one model in one run folder. The model's store holds the numbers, ``state`` counts."""

    def __init__(
        self, model: Model, data: Dataset, config: TrainConfig, engine: Engine, world: World | None = None
    ) -> None:
        self.model, self.data, self.config, self.engine = model, data, config, engine
        self.world = world or World()
        self.folder, self.callbacks = Path(), tuple[Callback, ...]()
        self.state = State()
        self.averaged = Averaged(config.ema)
        self.anchor = Anchor(config.anchor)
        self.recipe: Recipe = recipe_for(config, model, data)
        self._identity = {"data": data_identity(data), "graph": graph_digest(model.graph), "train": config.to_dict()}
        self.batch_size = config.batch_size or 1  # resolved before the loop
        check_room(self.batch_size, len(data.train), config.accumulate, self.world)
        self._stop = False
        self._log: Log | None = None
        self.options: dict[str, Any] = {
            "precision": config.precision,
            "device": config.device,
            "batch_norm": config.batch_norm,
            "trainable": None,
        }

    # --- beginning

    def begin(self) -> None:
        """Start from the model's weights. Raises what refuses an option; nothing is written yet."""
        store = self.model.store
        store.seed, store.updates = self.config.seed, 0
        store.optimizer_state, store.ema = {}, {}
        self.anchor.set(store)
        self._compile()

    def open(self, folder: Path, callbacks: Sequence[Callback]) -> None:
        """Write the beginning into a run folder: everything that resuming needs is on disk when this returns."""
        self.folder, self.callbacks = folder, tuple(callbacks)
        self.world.first(self._open)
        self._save(LAST_FILE)

    def _open(self) -> None:
        self._log = Log(self.folder)
        self.model.save(self.folder / MODEL_FILE)

    def restore(self, folder: Path, callbacks: Sequence[Callback]) -> None:
        """Go back to the last checkpoint. Raises ModelFileError when it is damaged or of another model."""
        self.folder, self.callbacks = folder, tuple(callbacks)
        last = self._checkpoint(LAST_FILE)
        self.state, metadata = read_checkpoint(last, self.model.store, self.averaged, self.anchor)
        self._compile()
        self.world.first(lambda: self._reopen(int(metadata["log_bytes"])))

    def _reopen(self, log_bytes: int) -> None:
        for file in (self._checkpoint(LAST_FILE), self._checkpoint(BEST_FILE), self.folder / MODEL_FILE):
            remove_leftovers(file)
        self._log = Log(self.folder, log_bytes)

    def _compile(self) -> None:
        """The plan of the training for what trains from this epoch on; where parts join, the optimiser begins anew."""
        config, store, epoch = self.config, self.model.store, self.state.epoch
        if epoch in self._joins and self.state.position == 0:
            store.optimizer_state, store.updates = {}, 0
        now = trainable_at(config.unfreeze, config.trainable, list(store.parameters), epoch)
        self.options["trainable"] = now
        self._plans: dict[Shape, Plan] = {}
        self.plan = self._plan(self.data.input_shape)

    def _plan(self, shape: Shape) -> Plan:
        """The plan for samples of one shape; augmentation may give batches of several."""
        if shape not in self._plans:
            largest = min(-(-self.batch_size // self.config.accumulate), len(self.data.train))  # of the pieces
            self._plans[shape] = self.model.compile(
                self.engine, -(-largest // self.world.size), pixels=True, training=True, input_shape=shape,
                loss=self.recipe.loss(shape), optimizer=self.config.optimizer, **self.options,
            )  # fmt: skip
        return self._plans[shape]

    @property
    def _joins(self) -> set[int]:
        return {epoch for epoch, _ in self.config.unfreeze}

    # --- epochs

    def run(self) -> None:
        """Train until the last epoch, or until patience or a callback ends it, then write the final model."""
        val = self.data.val
        self.own_val = val if val is None else own_share(val, self.world)
        self.val_plan = (
            None
            if val is None
            else evaluation_plan(self.model, val, self.engine, self.plan.spec.batch_size, device=self.config.device)
        )
        untried = self.state.step == 0 and self.state.best is None and self.state.waited == 0
        if self.config.keep_start and untried:
            self._try_start()
        epochs = self.config.epochs
        while self.state.epoch < epochs and not self.state.stopped:
            loader = self._loader()
            left = max(0, len(loader) - self.state.position) * min(self.batch_size, len(self.data.train))
            name = f"epoch {self.state.epoch + 1}/{epochs}"
            with progress.bar(left, name, bars_to_come=epochs - self.state.epoch - 1) as bar:
                self._steps(loader, bar)
                line = self._end_epoch(len(loader))
                bar.update(0, **self._shown(line))
            if self.state.epoch in self._joins and self.state.epoch < epochs and not self.state.stopped:
                self._compile()
        self._finish()

    def _shown(self, line: Mapping[str, Any]) -> dict[str, float]:
        """Of an epoch's line the metrics that people read while they wait."""
        shown = self.model.task.shown
        names = [name for name in line if name.startswith("val_") and (not shown or name[4:] in shown)]
        return {name: line[name] for name in names if line[name] is not None}

    def _try_start(self) -> None:
        """The weights that training starts with, as epoch 0: what the others must be better than."""
        metrics = self._validate()
        better = self._is_better(metrics)
        self._write("start", epoch=0, **{f"val_{name}": value for name, value in metrics.items()}, best=better)
        self._save_best(metrics, better)

    def _loader(self) -> Loader:
        config, split = self.config, self.data.train
        return loader_for(
            split, self.batch_size, seed=config.seed, epoch=self.state.epoch,
            augment=self.recipe.augment_at(self.state.epoch, config.epochs), mix=self.recipe.mix,
            workers=config.workers, start=self.state.position,
            # a remainder of few samples would give noisy batch statistics; other epochs draw other remainders
            drop_last=len(split) >= self.batch_size,
            own=lambda count: own_positions(count, config.accumulate, self.world),
        )  # fmt: skip

    def _steps(self, loader: Loader, bar: progress.Bar) -> None:
        state, total = self.state, len(loader) * self.config.epochs
        begin, waited = time.perf_counter(), 0.0
        for batch in loader:
            lr = self.lr(state.step, total)
            count = loader.count(state.position)
            loss, grad_norm, metric = self._step(batch, count, lr)
            now = time.perf_counter()
            wait, waited = loader.wait_seconds - waited, loader.wait_seconds
            self._count(loss, metric, count, now - begin, wait)
            state.seconds += now - begin
            begin = now
            state.position += 1
            state.step += 1
            bar.update(count, loss=state.sums["loss"] / state.sums["images"], lr=lr)
            if state.step % self.config.log_every == 0:
                self._log_step(lr, grad_norm)
            every = self.config.checkpoint_every
            if every and state.step % every == 0 and state.position < len(loader):
                self._save(LAST_FILE)

    def lr(self, step: int, total: int) -> float:
        """The learning rate of a step."""
        assert self.config.lr is not None  # resolved before the loop
        return self.config.lr * float(self.config.schedule.factor(step, total))

    def _step(self, batch: Batch, count: int, lr: float) -> tuple[float, float, float | None]:
        """One update from a batch of ``count`` samples: loss and metric of the whole, gradient norm."""
        self.plan = self._plan(batch.inputs.shape[1:])
        pieces, world = self.config.accumulate, self.world
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # said below, with the node's name
            found = gradients_of(self.plan, batch, count, self.state.step, self.recipe, pieces, world)
            if not math.isfinite(found.loss):
                world.agree(self._not_finite(*found.failed, lr) if found.failed else None)
            grad_norm = self.plan.update(lr)
        if not math.isfinite(grad_norm):
            raise nonfinite.after_update(self.model, self._when(), self._advice(lr))
        self.anchor.pull(self.model.store, self.config.optimizer, lr)
        self.averaged.update(self.model.store)
        return found.loss, grad_norm, found.metric

    def _count(self, loss: float, metric: float | None, images: int, seconds: float, wait: float) -> None:
        values = {"loss": loss * images, "images": images, "seconds": seconds, "wait": wait}
        if metric is not None:
            values["metric"] = metric * images
        for name, value in values.items():
            self.state.sums[name] = self.state.sums.get(name, 0.0) + value
            self.state.window[name] = self.state.window.get(name, 0.0) + value
        self.state.images += images

    def _log_step(self, lr: float, grad_norm: float) -> None:
        window = self.state.window
        self._write(
            "step", epoch=self.state.epoch + 1, step=self.state.step, loss=window["loss"] / window["images"], lr=lr,
            grad_norm=grad_norm, images_per_second=window["images"] / max(window["seconds"], 1e-9),
        )  # fmt: skip
        self.state.window = {}

    def _end_epoch(self, steps: int) -> dict[str, Any]:
        """Evaluate, remember the best, log, and write checkpoints: the best before the last, which says it is there."""
        state, sums = self.state, self.state.sums
        lr = self.lr(state.step - 1, steps * self.config.epochs)
        state.epoch, state.position = state.epoch + 1, 0
        metrics = self._validate()
        better = self._is_better(metrics)
        train = {"train_loss": sums["loss"] / sums["images"]}
        if "metric" in sums:
            train[f"train_{self.model.task.averaged}"] = sums["metric"] / sums["images"]
        line = self._write(
            "epoch", epoch=state.epoch, step=state.step, lr=lr, **train,
            **{f"val_{name}": value for name, value in metrics.items()}, best=better, seconds=sums["seconds"],
            images_per_second=sums["images"] / max(sums["seconds"], 1e-9), wait_seconds=sums["wait"],
            wait_share=sums["wait"] / max(sums["seconds"], 1e-9),
        )  # fmt: skip
        state.sums = {}
        if self._stop:
            state.stopped = "callback"
        elif self.config.patience is not None and state.waited >= self.config.patience:
            state.stopped = "patience"
        self._save_best(metrics, better)
        return line

    def _save_best(self, metrics: Mapping[str, float], better: bool) -> None:
        """The model file and the best checkpoint where these weights are the best so far; always the last one."""
        if better or not metrics:
            with with_weights(self.model.store, self.averaged.weights(self.model.store)):
                self.world.first(lambda: self._save_model(metrics))
        if better:
            self._save(BEST_FILE)
        self._save(LAST_FILE)

    def _validate(self) -> dict[str, float]:
        val = self.data.val
        if val is None:
            return {}
        with with_weights(self.model.store, self.averaged.weights(self.model.store)):
            outputs = self._val_outputs()
        return self.world.first(lambda: self.model.task.metrics(outputs, val.targets))

    def _val_outputs(self) -> Any:
        """Outputs for the whole validation split, of which every process computes its share."""
        assert self.val_plan is not None
        assert self.own_val is not None
        outputs = outputs_of(self.val_plan, self.own_val, self.model.task)
        return outputs if self.own_val is self.data.val else self.world.joined(outputs)

    def _is_better(self, metrics: Mapping[str, float]) -> bool:
        return self.state.is_better(metrics, *self.model.task.primary)

    # --- the end

    def _finish(self) -> None:
        """The chosen weights, with what is fitted on the validation split, become the model file."""
        state, model, val = self.state, self.model, self.data.val
        has_best = val is not None and state.best is not None
        if has_best:
            read_checkpoint(self._checkpoint(BEST_FILE), model.store, self.averaged, self.anchor)
        model.store.load({path: array.copy() for path, array in self.averaged.weights(model.store).items()})
        details: dict[str, Any] = {}
        if val is not None:
            outputs = model.as_logits(self._val_outputs())
            model.task = model.task.calibrate(outputs, val.targets)
            details = model.task.metrics(outputs, val.targets, classes=model.classes, detail=True)
        self.world.first(lambda: self._write_end(details, has_best))

    def _write_end(self, details: dict[str, Any], has_best: bool) -> None:
        state = self.state
        self._save_model({name: value for name, value in details.items() if isinstance(value, float)})
        summary = {
            "split": "val" if details else None, "best_epoch": self._chosen_epoch(), "epochs": state.epoch,
            "steps": state.step, "reason": state.stopped or "epochs", "seconds": state.seconds,
            "images_per_second": state.images / max(state.seconds, 1e-9),
            "chosen": "best on val" if has_best else "last",
        }  # fmt: skip
        self._written("end", summary)
        assert self._log is not None
        self._log.sync()
        write_json(self.folder / METRICS_FILE, {**summary, **({"val": details} if details else {})})

    def _save_model(self, metrics: Mapping[str, float]) -> None:
        model, config = self.model, self.config
        model.provenance = {
            **model.provenance, "dataset": self.data.name, "fingerprint": self.data.fingerprint,
            "split": "val" if metrics else None, "metrics": dict(metrics),
            "epoch": self._chosen_epoch(),
            "seed": config.seed, "train": config.recipe(), "fovea": fovea.__version__,
        }  # fmt: skip
        model.save(self.folder / MODEL_FILE)

    def _chosen_epoch(self) -> int:
        return self.state.epoch if self.state.best is None else self.state.best_epoch

    # --- files and messages

    def _checkpoint(self, name: str) -> Path:
        return self.folder / CHECKPOINTS / name

    def _save(self, name: str) -> None:
        self.world.first(lambda: self._saved(name))

    def _saved(self, name: str) -> None:
        assert self._log is not None
        identity = {**self._identity, "log_bytes": self._log.sync()}
        path, store = self._checkpoint(name), self.model.store
        write_checkpoint(path, store, self.averaged, self.anchor, self.state, identity)

    def _write(self, event: str, **values: Any) -> dict[str, Any]:
        """A line of the log; what the callbacks make of it in the first process holds in all."""
        line, self._stop = self.world.first(lambda: self._written(event, values))
        return line

    def _written(self, event: str, values: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        assert self._log is not None
        line = self._log.write(event, **values)
        answers = [bool(callback(line)) for callback in self.callbacks]
        return line, self._stop or any(answers)

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()

    def _when(self) -> str:
        return f"epoch {self.state.epoch + 1}, step {self.state.step + 1}"

    def _advice(self, lr: float) -> str:
        return (
            f"lower lr (it was {lr:.3g}) or set clip_norm=1.0; "
            f"the last checkpoint in {self.folder / CHECKPOINTS} is still good"
        )

    def _not_finite(self, inputs: Any, targets: Any, step: int, lr: float) -> Exception:
        return nonfinite.before_update(
            self.model,
            self.engine,
            self.recipe.loss(inputs.shape[1:]),
            inputs,
            targets,
            step,
            self._when(),
            self._advice(lr),
            **self.options,
        )
