"""Global hard identity search: which training identities look alike to the network in its present state."""

from typing import Any

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from kronreid.data.samplers import NearestIdentities, TrainingPictures
from kronreid.models.loading import wrap
from kronreid.training.config import Config
from kronreid.training.modules import ReIDTraining


class HardIdentitySearch(Callback):
    """GHIS (Zhang et al. 2019): keeps the identities' mean features up to date.

    All training pictures are embedded, without random changes, before the first epoch and after every
    `batch.hard_identities` epochs. Each process embeds its share. The means are saved with the checkpoint, so
    a resumed run makes the same batches.

    Args:
        nearest: Gets the means. Batches are drawn from it.
        pictures: The training pictures.
        config: The run's options.
    """

    def __init__(self, nearest: NearestIdentities, pictures: TrainingPictures, config: Config) -> None:
        self.nearest, self.pictures, self.config = nearest, pictures, config

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.nearest.means is None:  # not resumed
            self.search(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if (trainer.current_epoch + 1) % self.config.batch.hard_identities == 0:
            self.search(trainer, pl_module)

    def search(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Embed the training pictures in full precision, and average the vectors of each identity."""
        assert isinstance(module, ReIDTraining)
        training = module.model.training
        mine = range(trainer.global_rank, len(self.pictures), trainer.world_size)
        pictures = [self.pictures.pictures[index] for index in mine]
        with torch.autocast(module.device.type, enabled=False):
            vectors = wrap(module.model, self.config.input).embed(pictures, progress=trainer.is_global_zero)
        module.model.train(training)
        labels = torch.tensor([self.pictures.labels[index] for index in mine])
        identities = max(self.pictures.labels) + 1
        sums = torch.zeros(identities, vectors.shape[1], dtype=torch.float64)
        sums.index_add_(0, labels, torch.from_numpy(vectors).double())
        together = trainer.strategy.reduce(sums.to(module.device), reduce_op="sum")
        assert isinstance(together, Tensor)
        self.nearest.update(F.normalize(together).float())

    def state_dict(self) -> dict[str, Any]:
        return {"means": self.nearest.means}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.nearest.update(state_dict["means"])
