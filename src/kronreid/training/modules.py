"""One Lightning module for each way of training: vectors for embedding models, pairs for pair models."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from kronreid.data.transforms import normalise, resize
from kronreid.errors import InputError
from kronreid.losses import LOSSES, Loss, PairLoss, PartLoss, VectorLoss
from kronreid.losses.verification import in_batch_pairs
from kronreid.models.backbone import Backbone
from kronreid.models.pairs import PairModel, check_input
from kronreid.training.config import Config, OptimiserOptions


class ReIDTraining(lightning.LightningModule):
    """What all ways of training share: losses of vectors, the optimiser and its schedule, the training step.

    Args:
        model: The network.
        config: All options.
        identities: Number of training identities.
    """

    def __init__(self, model: nn.Module, config: Config, identities: int) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config = config
        self.evaluate: Callable[[ReIDTraining], None] | None = None
        # Parameters of losses belong to the training, not to the model that it leaves.
        self.heads = nn.ModuleDict()
        self.terms: dict[str, Callable[..., Tensor]] = {}
        for name, part in config.loss.chosen(PartLoss).items():
            self._add_term(name, part.make())
        for name, pair in config.loss.chosen(PairLoss).items():
            self._add_term(name, pair.make())
        for vector, channels in self._channels().items():
            for name, loss in config.loss.chosen(VectorLoss).items():
                self._add_term(_term(vector, name), loss.make(channels, identities))

    def _add_term(self, name: str, loss: Callable[..., Tensor]) -> None:
        self.terms[name] = loss
        if isinstance(loss, nn.Module):
            self.heads[name] = loss

    def _channels(self) -> dict[str, int]:
        """The length of each vector, which a picture of zeros tells."""
        self.model.eval()
        with torch.no_grad():
            vectors = self.vectors(torch.zeros(1, 3, self.config.input.height, self.config.input.width))
        self.model.train()
        return {name: vector.shape[1] for name, vector in vectors.items()}

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        """The vectors that have losses, by name, L2-normalised."""
        raise NotImplementedError

    def vector_losses(self, vectors: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The weighted losses of each vector, over the pictures of all processes.

        Triplets reach over the whole batch that way (Eq. 16), and OIM's tables are the same in all processes.
        """
        losses: dict[str, Tensor] = {}
        everybody = self.gathered(labels)
        for vector, values in vectors.items():
            together = self.gathered(values.float())
            for name, loss in self.config.loss.chosen(VectorLoss).items():
                term = _term(vector, name)
                losses[term] = loss.weight * self.terms[term](together, everybody)
        return losses

    def configure_optimizers(self) -> Any:
        """Parameter groups for the backbone and the new layers, and one schedule that counts iterations.

        With `layer_decay`, every layer of the backbone has a group of its own.
        """
        options = self.config.optimiser
        backbone = list(self.model.backbone.network.parameters())  # not the camera embeddings, which are new
        known = set(map(id, backbone))
        new = [parameter for parameter in self.parameters() if id(parameter) not in known]
        groups: list[dict[str, Any]] = [{"params": backbone, "lr": options.lr}]
        if options.layer_decay < 1:
            groups = decayed_groups(self.model.backbone, options.lr, options.layer_decay)
        groups.append({"params": new, "lr": options.lr if options.new_lr is None else options.new_lr})
        optimiser: torch.optim.Optimizer
        if options.name == "sgd":
            optimiser = torch.optim.SGD(groups, momentum=options.momentum, weight_decay=options.weight_decay)
        else:
            optimiser = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
        iterations = self.config.training.iterations
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(options, step, iterations))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def step_seed(self) -> int:
        """A seed for what this process draws in this step. A resumed run has the same."""
        return hash((self.config.training.seed, self.trainer.global_step, self.global_rank)) % 2**63

    def sized(self, pictures: Tensor) -> Tensor:
        """The pictures (B, 3, H, W), uint8, smaller in the first iterations if the options say so."""
        if self.global_step >= self.config.training.early_iterations:
            return pictures
        return resize(pictures, self.config.early_input)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """The loss of uint8 pictures (B, 3, H, W), labels (B,), and with camera embeddings cameras (B,).

        What the network draws, like stochastic depth, depends on the seed and the step alone, so that a
        resumed run draws the same.
        """
        pictures, labels, *cameras = batch
        torch.manual_seed(self.step_seed)
        if cameras:
            self.model.backbone.cameras.tell(cameras[0])
        images = normalise(self.sized(pictures), self.config.input)
        losses = self.losses(images, labels)
        total = torch.stack(list(losses.values())).sum()
        for name, value in losses.items():
            self.log(f"loss/{name}", value.detach(), on_step=False, on_epoch=True, batch_size=len(labels))
        self.log("loss", total.detach(), on_step=False, on_epoch=True, prog_bar=True, batch_size=len(labels))
        return total

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Runs the whole evaluation. There is only this one step (`TrainingData.val_dataloader`)."""
        if self.evaluate is not None:
            self.evaluate(self)

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the loss by name, of normalised images (B, 3, H, W)."""
        raise NotImplementedError

    def gathered(self, vectors: Tensor) -> Tensor:
        """The vectors or labels of all processes, with their gradients."""
        if self.trainer.world_size == 1:
            return vectors
        everybody = self.all_gather(vectors, sync_grads=True)
        assert isinstance(everybody, Tensor)
        return everybody.flatten(0, 1)


class EmbeddingTraining(ReIDTraining):
    """Training of an embedding model. HOReID's losses are triplets of each branch, and DSR (Sec. IV-D)."""

    def __init__(self, model: nn.Module, config: Config, identities: int) -> None:
        must_have(config, VectorLoss)
        super().__init__(model, config, identities)

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        """The model's branches."""
        return self.model(images).branches

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The losses of the branches, and those of the parts if there are any."""
        embedding = self.model(images)
        losses = self.vector_losses(embedding.branches, labels)
        if embedding.parts:
            for name, loss in self.config.loss.chosen(PartLoss).items():
                losses[name] = loss.weight * self.terms[name](embedding.parts)
        return losses


class PairTraining(ReIDTraining):
    """Training of a pair model. KPM's loss is binary cross-entropy on pairs of the batch (Sec. 4.2, 4.3)."""

    model: PairModel

    def __init__(self, model: nn.Module, config: Config, identities: int) -> None:
        must_have(config, PairLoss)
        check_input(config.input)
        super().__init__(model, config, identities)

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        """The pooled features, which make the first ranking, if they have losses."""
        return {"pooled": self.model.vectors(images)} if self.config.loss.pooled else {}

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The losses of the pairs of this process, and those of the pooled features if they have any."""
        options, batch = self.config.loss, self.config.batch
        pictures = self.model.encode(images)
        generator = torch.Generator().manual_seed(self.step_seed)
        first, second, same = in_batch_pairs(
            labels, batch.negatives, generator, pictures.pooled.detach(), batch.hard_negatives
        )
        logits = self.model.way.logits(pictures, first, second)  # one, or one per scale
        losses: dict[str, Tensor] = {}
        for name, loss in options.chosen(PairLoss).items():
            losses[name] = loss.weight * torch.stack([self.terms[name](one, same) for one in logits]).sum()
        if options.pooled:
            for name, value in self.vector_losses({"pooled": pictures.pooled}, labels).items():
                losses[name] = options.pooled * value
        return losses


def decayed_groups(backbone: Backbone, lr: float, decay: float) -> list[dict[str, Any]]:
    """One parameter group for every layer of a backbone; see `OptimiserOptions.layer_decay`.

    Args:
        backbone: The backbone.
        lr: The learning rate of its last layer.
        decay: The factor from each layer to the one before it.
    """
    depths = backbone.depths()
    layers: list[list[nn.Parameter]] = [[] for _ in range(max(depths.values()) + 1)]
    for name, parameter in backbone.network.named_parameters():
        layers[depths[name]].append(parameter)
    return [
        {"params": layer, "lr": lr * decay ** (len(layers) - 1 - depth)} for depth, layer in enumerate(layers)
    ]


def must_have(config: Config, kind: type[Loss]) -> None:
    """Check that a config has a loss of a kind.

    Raises:
        InputError: The weights of all losses of the kind are 0.
    """
    if not config.loss.chosen(kind):
        names = " or ".join(name for name, loss in LOSSES.items() if issubclass(loss, kind))
        raise InputError("loss", f"nothing is minimised; give {names} a weight")


def _term(vector: str, loss: str) -> str:
    """The name of a vector's loss in logs. Triplets have the vector's name alone."""
    return vector if loss == "triplet" else f"{vector}-{loss}"


def rate(options: OptimiserOptions, step: int, iterations: int) -> float:
    """The factor of the learning rate at iteration `step` (0, 1, …)."""
    warmup = min(1.0, (step + 1) / options.warmup) if options.warmup else 1.0
    if options.schedule == "step":
        return warmup * options.factor ** (step // options.decay_iterations)
    if options.schedule == "gradual":
        done = min(1.0, step / options.decay_iterations)
        return warmup * (1 - done * (1 - options.factor))
    done = min(1.0, step / iterations)
    return warmup * (options.factor + (1 - options.factor) * 0.5 * (1 + math.cos(math.pi * done)))
