"""A config's data set: its layout and protocol, and whether training can evaluate on it."""

import logging
import os
from dataclasses import replace

from kronreid.data.readers import read
from kronreid.data.records import ReIDDataset
from kronreid.errors import InputError
from kronreid.evaluation import dataset_task
from kronreid.training.config import DataOptions

log = logging.getLogger(__name__)


def read_dataset(options: DataOptions) -> ReIDDataset:
    """Read a config's data set.

    The layout is the one that the config names. Otherwise it is the usual one if the root looks like it, and
    else the one that is found.

    Returns:
        The data set. Its `protocol` is the one for evaluation while training.

    Raises:
        InputError: The config has no root, or the root cannot be read.
    """
    if options.root is None:
        raise InputError("--data", "the data set's root is needed (or data.root in the config)")
    root = os.path.expandvars(options.root)
    dataset = read(root, options.layout, options.split, options.usual_layout)
    dataset = replace(dataset, protocol=options.protocol_for(dataset.name) or dataset.protocol)
    if options.layout is None and options.usual_layout not in (None, dataset.name):
        log.info(
            "%s: read as layout %s and evaluated by protocol %s; the config was written for %s",
            root,
            dataset.name,
            dataset.protocol,
            options.usual_layout,
        )
    return dataset


def check_evaluation(dataset: ReIDDataset, pairs: bool) -> None:
    """Check now what would stop the first evaluation, which may be hours away.

    Args:
        dataset: As `read_dataset` returns it.
        pairs: Whether a pair model trains. Its evaluation re-scores the best candidates of each query.

    Raises:
        InputError: The protocol is unknown or does not fit the model or the data set's labels.
    """
    try:
        task, _ = dataset_task(dataset, dataset.protocol)
    except InputError as error:
        raise InputError(
            "evaluation while training", f"{error}; training.evaluate_every=0 turns it off"
        ) from None
    if pairs and (task.protocol.draws or task.protocol.average_queries):
        raise InputError(
            "data.protocol",
            f"{task.protocol.name} has no one list whose best a pair model could re-score while "
            "it trains; name another one, or set training.evaluate_every to 0",
        )
