"""`train`: a config and a data set in, a run folder out."""

import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from kronreid.data.records import ReIDDataset, identities
from kronreid.data.samplers import (
    HardIdentityBatchSampler,
    NearestIdentities,
    PKBatchSampler,
    TrainingPictures,
    collate,
)
from kronreid.data.transforms import TrainTransform
from kronreid.errors import InputError, one_line
from kronreid.extras import require
from kronreid.memory import keep_memory
from kronreid.models.card import write_card
from kronreid.models.folders import OPTIONS, RECORD
from kronreid.models.inference import Embedder
from kronreid.models.loading import load_network
from kronreid.models.pairs import PairModel
from kronreid.models.places import PlaceMatching, save_places
from kronreid.training.callbacks import CHECKPOINT, RunFolder, mean_of_weights
from kronreid.training.config import Config, build_model, to_yaml
from kronreid.training.cpu import precision_here, strided_depthwise_in_full_precision
from kronreid.training.data import check_evaluation, read_dataset
from kronreid.training.hard import HardIdentitySearch
from kronreid.training.modules import EmbeddingTraining, PairTraining, ReIDTraining
from kronreid.training.places import FitOptions, check_before_training, fit_places
from kronreid.training.records import record

log = logging.getLogger(__name__)
# Lightning announces itself at every start and deprecates its own calls. What matters is logged here.
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*LeafSpec.*")
warnings.filterwarnings("ignore", message=".*does not have many workers.*")


class TrainingData(lightning.LightningDataModule):
    """The training batches, split over processes, and one empty step in which evaluation takes place."""

    def __init__(self, dataset: ReIDDataset, config: Config) -> None:
        super().__init__()
        self.dataset, self.config = dataset, config
        transform = TrainTransform(config.input, config.augment)
        self.pictures = TrainingPictures(dataset.train, transform, keep=config.data.keep)
        self.nearest = NearestIdentities()

    def sampler(self, rank: int = 0, world: int = 1) -> PKBatchSampler:
        """The batches of one process."""
        batch, training = self.config.batch, self.config.training
        arguments = (
            self.dataset.train,
            batch.identities,
            batch.pictures,
            training.epoch,
            training.seed,
            batch.across_cameras,
            rank,
            world,
        )
        if batch.hard_identities:
            return HardIdentityBatchSampler(self.nearest, *arguments)
        return PKBatchSampler(*arguments)

    def train_dataloader(self) -> DataLoader:
        """Batches of uint8 pictures (B, 3, H, W) and labels (B,)."""
        assert self.trainer is not None
        return DataLoader(
            self.pictures,
            batch_sampler=self.sampler(self.trainer.global_rank, self.trainer.world_size),
            collate_fn=collate,
            num_workers=self.config.data.workers,
            persistent_workers=self.config.data.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Raise in the main process what a worker process could not read."""
        if isinstance(batch, InputError):
            raise batch
        return batch

    def val_dataloader(self) -> DataLoader:
        """A single item. Evaluation itself embeds the pictures, as `kronreid evaluate` does."""
        return DataLoader([0])  # type: ignore[arg-type]


def lightning_module(config: Config, identities: int, source: str = "config") -> ReIDTraining:
    """The config's network in its way of training; `source` names the config in messages."""
    model = build_model(config, source)
    way = PairTraining if isinstance(model, PairModel) else EmbeddingTraining
    return way(model, config, identities)


def train(config: Config, out: str | Path, resume: bool = False, source: str | None = None) -> Path:
    """Train a model, and leave a run folder (see `RunFolder`).

    Args:
        config: All options; `config.data.root` must be set.
        out: The run's folder.
        resume: Continue an interrupted run in `out` after its last complete epoch. The losses are the same as
            if it had not been interrupted. Without a checkpoint it starts from the beginning.
        source: The name of the row or config file. The run's folder records the row (`kronreid papers`).

    Returns:
        `out`.

    Raises:
        InputError: Data or options are bad, a package is missing, or `out` holds a run and `resume` is off.
        KeyboardInterrupt: After Ctrl-C. The run can be resumed.
    """
    require("training", "train")  # Lightning looks for TensorBoard only when it is used
    out = Path(out)
    first_process = int(os.environ.get("LOCAL_RANK", 0)) == 0 and int(os.environ.get("RANK", 0)) == 0
    checkpoint = out / CHECKPOINT
    if first_process and not resume and out.is_dir() and any(out.iterdir()):
        raise InputError(f"--out {out}", "is not empty; --resume goes on with it, another name starts anew")
    dataset = read_dataset(config.data)
    if not dataset.train:
        raise InputError(f"--data {dataset.root}", "has no pictures to train on")
    data = TrainingData(dataset, config)
    data.sampler(0, config.training.devices)  # raises early if the data set does not fit the batch
    lightning.seed_everything(config.training.seed, verbose=False)
    module = lightning_module(config, len(identities(dataset.train)), str(source or "config"))
    embeddings = getattr(module.model.backbone, "cameras", None)
    if embeddings is not None:
        data.pictures.tell_cameras(len(embeddings.embedding))
    if config.places.fit:
        check_before_training(module.model, config.input, dataset.train, config.places)
    if config.training.evaluate_every:
        check_evaluation(dataset, isinstance(module, PairTraining))
    folder = RunFolder(out, config, dataset)
    module.evaluate = folder.evaluate
    options = config.training
    terminal = sys.stderr.isatty()
    callbacks: list[lightning.Callback] = [folder]
    if config.batch.hard_identities:  # before the run's folder, which saves its means
        callbacks.insert(0, HardIdentitySearch(data.nearest, data.pictures, config))
    if options.average_weights:
        callbacks.insert(0, mean_of_weights(options.average_weights))
    if terminal:
        callbacks.append(TQDMProgressBar())
    try:
        trainer = lightning.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            strategy="ddp" if options.devices > 1 else "auto",
            sync_batchnorm=options.devices > 1 and torch.cuda.is_available(),
            use_distributed_sampler=False,
            precision=precision_here(options.precision, options.accelerator),
            max_epochs=options.iterations // options.epoch,
            check_val_every_n_epoch=options.evaluate_every or None,
            limit_val_batches=1 if options.evaluate_every else 0,
            num_sanity_val_steps=0,
            log_every_n_steps=options.epoch,
            logger=TensorBoardLogger(out, name=None, version="tensorboard"),
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=terminal,
            enable_model_summary=False,
        )
    except MisconfigurationException as error:  # no such device here, or not as many
        raise InputError(
            f"training.accelerator {options.accelerator}, training.devices {options.devices}",
            str(one_line(error)),
        ) from None
    if isinstance(trainer.accelerator, CPUAccelerator):
        keep_memory()
        strided_depthwise_in_full_precision(module.model)
    if first_process:
        out.mkdir(parents=True, exist_ok=True)
        (out / OPTIONS).write_text(to_yaml(config))
        (out / RECORD).write_text(record(config, dataset, source))
    if resume and not checkpoint.is_file():
        log.info("%s has no complete epoch yet; starting from the beginning", out)
    try:
        trainer.fit(
            module,
            data,
            ckpt_path=str(checkpoint) if resume and checkpoint.is_file() else None,
            weights_only=True,
        )
    except SystemExit:  # how Lightning leaves after Ctrl-C
        raise KeyboardInterrupt from None
    if config.places.fit and first_process:
        fit_run(out, dataset, config.places)
    return out


def fit_run(run: Path, dataset: ReIDDataset, options: FitOptions) -> PlaceMatching:
    """Fit the place matching of a trained embedder on a data set's training pictures, and keep it in its
    folder.

    Until it is complete the folder stays as it was.

    Returns:
        The place matching.

    Raises:
        InputError: It is a pair model, there are no training pictures, or see
            `kronreid.training.places.fit_places`.
    """
    embedder = load_network(run)
    if not isinstance(embedder, Embedder):
        raise InputError(
            run, "is a pair model, which matches places already; only embedders are fitted with some"
        )
    if not dataset.train:
        raise InputError(dataset.root, "has no pictures to fit places on")
    started = time.perf_counter()
    places = fit_places(embedder, dataset.train, options, progress=True)
    save_places(run, places, embedder.fingerprint)
    write_card(run)
    seconds, size = time.perf_counter() - started, places.bytes_per_picture
    log.info("places fitted in %.0f s; %s bytes a picture", seconds, f"{size:,}")
    return places
