"""One Lightning module per way of training: vectors for embedding models, pairs for pair models."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import lightning
import torch
from torch import Tensor, nn

from kronreid.data.transforms import normalise
from kronreid.errors import InputError
from kronreid.losses import (
    OIM,
    IdentityLoss,
    batch_hard_triplet_loss,
    in_batch_pairs,
    sampler_regulariser,
    triplet_loss,
    verification_loss,
)
from kronreid.models.pairs import PairModel
from kronreid.training.config import Config, OptimiserOptions


class ReIDTraining(lightning.LightningModule):
    """What all ways share: the optimiser, its schedule and the batch's way onto the device.

    Args:
        model: The network.
        config: Everything about the training.
        identities: Number of training identities.
    """

    def __init__(self, model: nn.Module, config: Config, identities: int) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config = config
        self.evaluate: Callable[[ReIDTraining], None] | None = None
        # The heads belong to the training, not to the model that it leaves. A picture of zeros tells which
        # vectors there are and how long they are.
        self.heads, self.tables = nn.ModuleDict(), nn.ModuleDict()
        loss = config.loss
        if loss.identity or loss.oim:
            model.eval()
            with torch.no_grad():
                vectors = self.vectors(torch.zeros(1, 3, config.input.height, config.input.width))
            model.train()
            for name, vector in vectors.items():
                channels = vector.shape[1]
                if loss.identity:
                    self.heads[name] = IdentityLoss(channels, identities, loss.smoothing)
                if loss.oim:
                    self.tables[name] = OIM(channels, identities, loss.oim_temperature, loss.oim_momentum)

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        """The vectors that triplets and identities are learnt from, by name, L2-normalised."""
        raise NotImplementedError

    def vector_losses(self, vectors: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """What each vector is trained by, weighted: triplets, identities, a table (see `LossOptions`).

        Triplets reach over the pictures of all processes (Eq. 16), and so do the tables' updates.
        """
        options = self.config.loss
        losses: dict[str, Tensor] = {}
        everybody = self.gathered(labels)
        for name, vector in vectors.items():
            if options.triplet:
                losses[name] = options.triplet * self.triplets(self.gathered(vector.float()), everybody)
            if options.identity:
                losses[f"{name}-identity"] = options.identity * self.heads[name](vector, labels)
            if options.oim:
                table = cast(OIM, self.tables[name])
                losses[f"{name}-oim"] = options.oim * table(vector, labels)
                table.update(self.gathered(vector.detach().float()), everybody)
        return losses

    def triplets(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """The triplet loss that the options choose."""
        options = self.config.loss
        if options.mining == "hard":
            return batch_hard_triplet_loss(vectors, labels, options.margin)
        return triplet_loss(vectors, labels, options.margin, options.average)

    def configure_optimizers(self) -> Any:
        """Two groups, backbone and new layers, and one schedule for both, stepped by iteration."""
        options = self.config.optimiser
        backbone = list(self.model.backbone.parameters())
        known = set(map(id, backbone))
        new = [parameter for parameter in self.parameters() if id(parameter) not in known]
        groups = [
            {"params": backbone, "lr": options.lr},
            {"params": new, "lr": options.lr if options.new_lr is None else options.new_lr},
        ]
        optimiser: torch.optim.Optimizer
        if options.name == "sgd":
            optimiser = torch.optim.SGD(groups, momentum=options.momentum, weight_decay=options.weight_decay)
        else:
            optimiser = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
        iterations = self.config.training.iterations
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(options, step, iterations))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """uint8 pictures (B, 3, H, W) and labels (B,) to the loss."""
        pictures, labels = batch
        images = normalise(pictures, self.config.input).contiguous(memory_format=torch.channels_last)
        losses = self.losses(images, labels)
        total = torch.stack(list(losses.values())).sum()
        for name, value in losses.items():
            self.log(f"loss/{name}", value.detach(), on_step=False, on_epoch=True, batch_size=len(labels))
        self.log("loss", total.detach(), on_step=False, on_epoch=True, prog_bar=True, batch_size=len(labels))
        return total

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """The whole evaluation, in the one step that there is (`TrainingData.val_dataloader`)."""
        if self.evaluate is not None:
            self.evaluate(self)

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The terms of the loss by name, weighted; images are normalised (B, 3, H, W)."""
        raise NotImplementedError

    def gathered(self, vectors: Tensor) -> Tensor:
        """Vectors of all processes, with gradients: triplets reach over the whole batch."""
        if self.trainer.world_size == 1:
            return vectors
        everybody = self.all_gather(vectors, sync_grads=True)
        assert isinstance(everybody, Tensor)
        return everybody.flatten(0, 1)


class EmbeddingTraining(ReIDTraining):
    """An embedding model's training; HOReID's is a triplet loss per branch, and DSR (Sec. IV-D)."""

    def __init__(self, model: nn.Module, config: Config, identities: int) -> None:
        loss = config.loss
        if not (loss.triplet or loss.identity or loss.oim):
            raise InputError("loss", "triplet, identity and oim are all 0; give one of them a weight")
        super().__init__(model, config, identities)

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        """The model's branches."""
        return self.model(images).branches

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """L = L_tri + λ_reg · L_reg."""
        options = self.config.loss
        embedding = self.model(images)
        losses = self.vector_losses(embedding.branches, labels)
        if embedding.parts and options.regulariser:
            losses["regulariser"] = options.regulariser * sampler_regulariser(
                embedding.parts, options.regulariser_margin
            )
        return losses


class PairTraining(ReIDTraining):
    """KPM's training (Sec. 4.2, 4.3): binary cross-entropy on pairs formed inside the batch."""

    model: PairModel

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        """The pooled features that make the first ranking."""
        return {"pooled": self.model.vectors(images)}

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The verification loss of this process's pairs, and the pooled features' losses if asked for."""
        options, batch = self.config.loss, self.config.batch
        pictures = self.model.encode(images)
        seed = hash((self.config.training.seed, self.trainer.global_step, self.global_rank)) % 2**63
        generator = torch.Generator().manual_seed(seed)
        first, second, same = in_batch_pairs(
            labels, batch.negatives, generator, pictures.pooled.detach(), batch.hard_negatives
        )
        logits = self.model.way.logits(pictures, first, second)  # one, or one per scale
        losses = {"verification": torch.stack([verification_loss(one, same) for one in logits]).sum()}
        if options.pooled:
            for name, loss in self.vector_losses({"pooled": pictures.pooled}, labels).items():
                losses[name] = options.pooled * loss
        return losses


def rate(options: OptimiserOptions, step: int, iterations: int) -> float:
    """The share of the learning rate that is used at iteration `step` (0, 1, …)."""
    warmup = min(1.0, (step + 1) / options.warmup) if options.warmup else 1.0
    if options.schedule == "step":
        return warmup * options.factor ** (step // options.decay_iterations)
    if options.schedule == "gradual":
        done = min(1.0, step / options.decay_iterations)
        return warmup * (1 - done * (1 - options.factor))
    done = min(1.0, step / iterations)
    return warmup * (options.factor + (1 - options.factor) * 0.5 * (1 + math.cos(math.pi * done)))
