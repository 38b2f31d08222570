"""What happens between the steps: evaluation, the run folder, its history, and the mean of the weights."""

import logging
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor

from kronreid.data.records import ReIDDataset
from kronreid.evaluation import evaluate_dataset
from kronreid.models.folders import HISTORY
from kronreid.models.loading import wrap
from kronreid.models.pairs import PairModel
from kronreid.models.storage import save
from kronreid.training.config import Config
from kronreid.training.history import write_history
from kronreid.training.modules import ReIDTraining

log = logging.getLogger(__name__)

CHECKPOINT = "last.ckpt"


def mean_of_weights(decay: float) -> WeightAveraging:
    """A running mean of the weights, w̄ ← d · w̄ + (1 − d) · w with d = min(decay, (1 + n) / (10 + n)).

    The decay is small at first, so the mean soon forgets the initial weights. Whole numbers, like the bins of
    a count sketch and the counters of BN, are copied: their mean would be rounded to another bin.
    """

    def average(mean: Tensor, current: Tensor, number: Tensor | int) -> Tensor:
        if not torch.is_floating_point(mean):
            return current
        n = float(number)
        return torch.lerp(current, mean, min(decay, (1 + n) / (10 + n)))

    return WeightAveraging(avg_fn=average)


class RunFolder(Callback):
    """Keeps a run's folder complete at the end of every epoch.

    ``config.json`` and ``model.safetensors`` are the newest model that was evaluated, and at the end the last
    one; `kronreid.load` opens it. ``best/`` is the model with the best mAP so far. It is chosen on the
    queries that it is measured on, so report the newest one. ``last.ckpt`` has all that resuming needs, and
    ``history.csv`` a line for each epoch.

    Args:
        folder: The run's folder.
        config: The run's options.
        dataset: The data set, whose queries and gallery are used for evaluation.
    """

    def __init__(self, folder: Path, config: Config, dataset: ReIDDataset) -> None:
        self.folder, self.config, self.dataset = folder, config, dataset
        self.rows: list[dict[str, Any]] = []
        self.metrics: dict[str, Any] = {}
        self.seconds = 0.0
        self.best = -1.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.started, self.evaluating, self.metrics = time.perf_counter(), 0.0, {}

    def evaluate(self, module: ReIDTraining) -> None:
        """Evaluate the module in its present state, on all processes, and save it; also as best if it is.

        It computes in full precision, as `kronreid evaluate` does. Lightning calls this under the training's
        autocast.
        """
        start = time.perf_counter()
        training = module.model.training
        tool = wrap(module.model, self.config.input)
        with torch.autocast(module.device.type, enabled=False):
            result = evaluate_dataset(tool, self.dataset, protocol=self.dataset.protocol)
        module.model.train(training)
        self.metrics = {"rank1": result.rank1, "rank5": result.rank5, "rank10": result.rank10}
        self.metrics["mAP"] = result.mAP
        if isinstance(module.model, PairModel):
            self.metrics["rerank_top"] = result.rerank_top
        if module.global_rank == 0:
            self._save(self.folder, module)
            if result.mAP > self.best:
                self.best = result.mAP
                self._save(self.folder / "best", module)
        self.evaluating = time.perf_counter() - start

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.seconds += time.perf_counter() - self.started - self.evaluating
        options = self.config.batch
        row: dict[str, Any] = {
            "iteration": trainer.global_step,
            "pictures": trainer.global_step * options.identities * options.pictures,
            "seconds": round(self.seconds, 1),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
        }
        row |= {
            name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("loss")
        }
        row |= self.metrics
        if trainer.logger is not None:
            trainer.logger.log_metrics(self.metrics | {"lr": row["lr"]}, step=trainer.global_step)
        self.rows.append(row)
        if trainer.is_global_zero:
            write_history(self.folder / HISTORY, self.rows)
            shown = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if key != "iteration")
            log.info("iteration %d/%d  %s", row["iteration"], self.config.training.iterations, shown)
        # All processes take part in a checkpoint. It replaces the old one only when it is complete.
        new = self.folder / ".new.ckpt"
        trainer.save_checkpoint(new)
        if trainer.is_global_zero:
            new.replace(self.folder / CHECKPOINT)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            self._save(self.folder, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self.seconds, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.seconds, self.best = state_dict["rows"], state_dict["seconds"], state_dict["best"]

    def _save(self, folder: Path, module: lightning.LightningModule) -> None:
        save(folder, self.config.name, self.config.arguments, self.config.input, module.model)  # type: ignore[arg-type]
