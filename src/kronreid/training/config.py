"""A training's options, and the YAML files that hold them.

A config file names its difference from another one in `base:`; files read like a row of a table::

    base: horeid.yaml
    model:
      order: 2
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import yaml

from kronreid.data.transforms import AugmentOptions, InputOptions
from kronreid.errors import InputError, one_line
from kronreid.models import MODELS
from kronreid.models.storage import build, check_options


@dataclass(frozen=True)
class DataOptions:
    """What to learn from.

    Attributes:
        root: Folder of the data set; ``--data`` overrides it; ``${VARIABLE}`` is replaced from the
            environment.
        layout: How it is laid out; None looks.
        protocol: How it is evaluated while training; None takes the layout's own.
        split: Which of its divisions into training and test, where it has several (CUHK03: 0 to 19).
        workers: Processes that load pictures.
        keep: Keep decoded pictures in memory.
    """

    root: str | None = None
    layout: str | None = None
    protocol: str | None = None
    split: int = 0
    workers: int = 2
    keep: bool = True


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is made up.

    Attributes:
        identities: P of the PK batch, over all processes together.
        pictures: K.
        across_cameras: Take an identity's pictures from different cameras where there are several.
        hard_identities: Epochs between two searches for the identities that look alike, of which batches are
            then made: one at random and its nearest ones (GHIS, Zhang et al. 2019); 0 draws all at random.
        negatives: Negative pairs for each positive one (pair models).
        hard_negatives: How many of them are the batch's most similar ones instead of random ones.
    """

    identities: int = 64
    pictures: int = 4
    across_cameras: bool = False
    hard_identities: int = 0
    negatives: int = 3
    hard_negatives: int = 0


@dataclass(frozen=True)
class LossOptions:
    """What is minimised: the sum of the terms whose weight is not 0.

    Attributes:
        triplet: Weight of the triplet loss of each of a model's vectors.
        margin: m_t of the triplet loss (HOReID, Eq. 16).
        mining: ``all`` triplets of the batch, or each picture's ``hard`` one (Hermans et al. 2017).
        average: Mean over ``all`` of all triplets as in HOReID, or over the ``active`` ones.
        regulariser: λ_reg, the weight of DSR.
        regulariser_margin: m_p of DSR (Eq. 13).
        identity: Weight of a classification of the training identities from each vector, through a BN neck
            (Luo et al. 2019). Not in HOReID.
        smoothing: Label smoothing of that classification.
        oim: Weight of online instance matching of each vector (Xiao et al. 2017).
        oim_temperature: Its τ.
        oim_momentum: Its η, what a row of the table keeps.
        pooled: Weight of the terms above for a pair model's pooled features, which make its first ranking.
            Not in KPM.
    """

    triplet: float = 1.0
    margin: float = 0.2
    mining: Literal["all", "hard"] = "all"
    average: Literal["all", "active"] = "all"
    regulariser: float = 0.1
    regulariser_margin: float = 0.2
    identity: float = 0.0
    smoothing: float = 0.1
    oim: float = 0.0
    oim_temperature: float = 1 / 30
    oim_momentum: float = 0.5
    pooled: float = 0.0


@dataclass(frozen=True)
class OptimiserOptions:
    """How it is minimised. All schedules count iterations.

    Attributes:
        name: ``sgd`` as in the papers, or ``adamw``.
        lr: Learning rate of the backbone, and of new layers where `new_lr` is not given.
        new_lr: Learning rate of the layers that do not start from pretrained weights.
        momentum: Of SGD.
        weight_decay: L2 penalty (SGD) or decoupled decay (AdamW).
        schedule: ``step`` multiplies by `factor` every `decay_iterations` (HOReID); ``gradual`` goes
            evenly from lr to lr · `factor` within `decay_iterations` and stays there (KPM); ``cosine`` ends
            at lr · `factor`.
        decay_iterations: See `schedule`.
        factor: See `schedule`.
        warmup: Iterations of linear rise at the start.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    new_lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 2e-4
    schedule: Literal["step", "gradual", "cosine"] = "step"
    decay_iterations: int = 20_000
    factor: float = 0.2
    warmup: int = 0


@dataclass(frozen=True)
class TrainingOptions:
    """How long, how precisely, and where.

    Attributes:
        iterations: Batches in total, a multiple of `epoch`.
        epoch: Iterations per epoch, the unit of checkpoints and log lines; HOReID's lineage takes 100.
        evaluate_every: Epochs between two evaluations on the query and gallery pictures; 0 for none.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        average_weights: Decay of a running mean of the weights, which is what is evaluated and saved; 0
            turns it off.
        seed: Decides initial weights, batches and random changes.
        devices: Processes on this machine.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
    """

    iterations: int = 75_000
    epoch: int = 100
    evaluate_every: int = 10
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    average_weights: float = 0.0
    seed: int = 0
    devices: int = 1
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"


@dataclass(frozen=True)
class Config:
    """Everything about one training.

    Attributes:
        model: ``name`` and the model's own options.
        input: What the network sees.
        augment: Random changes.
        data: What to learn from.
        batch: How a batch is made up.
        loss: What is minimised.
        optimiser: How it is minimised.
        training: How long, how precisely, and where.
    """

    model: dict[str, Any]
    input: InputOptions = field(default_factory=InputOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    data: DataOptions = field(default_factory=DataOptions)
    batch: BatchOptions = field(default_factory=BatchOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model["name"]

    @property
    def arguments(self) -> dict[str, Any]:
        """The model's own options."""
        return {key: value for key, value in self.model.items() if key != "name"}


SECTIONS = {
    "input": InputOptions,
    "augment": AugmentOptions,
    "data": DataOptions,
    "batch": BatchOptions,
    "loss": LossOptions,
    "optimiser": OptimiserOptions,
    "training": TrainingOptions,
}

#: Smallest and largest value of each number that means nothing, or does harm unseen, beyond them.
LIMITS: dict[str, tuple[float, float]] = {
    "augment.crop_area": (0.001, 1),
    "augment.crop_aspect": (0.001, math.inf),
    "augment.flip": (0, 1),
    "augment.shift": (0, 1),
    "augment.erase": (0, 1),
    "data.workers": (0, math.inf),
    "batch.hard_identities": (0, math.inf),
    "batch.negatives": (1, math.inf),
    "batch.hard_negatives": (0, math.inf),
    "loss.triplet": (0, math.inf),
    "loss.margin": (0, 2),
    "loss.regulariser": (0, math.inf),
    "loss.regulariser_margin": (-1, 1),
    "loss.identity": (0, math.inf),
    "loss.smoothing": (0, 1),
    "loss.oim": (0, math.inf),
    "loss.oim_temperature": (1e-6, math.inf),
    "loss.oim_momentum": (0, 1),
    "loss.pooled": (0, math.inf),
    "optimiser.lr": (0, math.inf),
    "optimiser.new_lr": (0, math.inf),
    "optimiser.momentum": (0, 1),
    "optimiser.weight_decay": (0, math.inf),
    "optimiser.decay_iterations": (1, math.inf),
    "optimiser.factor": (0, 1),
    "optimiser.warmup": (0, math.inf),
    "training.evaluate_every": (0, math.inf),
    "training.average_weights": (0, 0.999999),
    "training.seed": (0, 2**32 - 1),
    "training.devices": (1, math.inf),
}


def read_config(path: str | Path, changes: Sequence[str] = ()) -> Config:
    """Read a config file, its bases below it and the changes above it.

    Args:
        path: A YAML file.
        changes: ``section.key=value`` each, the value in YAML, as ``--set`` takes them.

    Raises:
        InputError: The file is missing or no YAML, a key is unknown or a value of the wrong type.
    """
    values = _read_yaml(Path(path), seen=())
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise InputError(f"--set {change}: expected section.key=value, like training.iterations=200")
        *sections, last = key.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise InputError(f"--set {change}: {section!r} is a value, not a section")
        try:
            place[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {change}: the value is no YAML ({one_line(error)})") from None
    return make_config(values, source=str(path))


def make_config(values: dict[str, Any], source: str = "config") -> Config:
    """Check plain values against the options' types.

    Raises:
        InputError: A key is unknown, or a value of the wrong type or out of `LIMITS`.
    """
    values = copy.deepcopy(values)
    model = values.pop("model", None)
    if not isinstance(model, dict) or "name" not in model:
        raise InputError(f"{source}: 'model' needs a name; one of {', '.join(MODELS)}")
    check_options(values, SECTIONS, source)
    for section, options in SECTIONS.items():
        may_be_null = {option.name for option in fields(options) if option.default is None}
        given = {name: v for name, v in values.get(section, {}).items() if name not in may_be_null}
        check_options(given, (), f"{source}: {section}")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    for section, options in SECTIONS.items():
        parser.add_class_arguments(options, section)
    try:
        sections = parser.instantiate_classes(parser.parse_object(values))
    except (jsonargparse.ArgumentError, TypeError) as error:
        raise InputError(f"{source}: {one_line(error)}") from None
    config = Config(model=model, **{section: sections[section] for section in SECTIONS})
    training = config.training
    if training.epoch < 1 or training.iterations < training.epoch or training.iterations % training.epoch:
        raise InputError(
            f"{source}: training.iterations {training.iterations} must be a positive multiple of "
            f"training.epoch {training.epoch}"
        )
    _check_limits(config, source)
    return config


def _check_limits(config: Config, source: str) -> None:
    for name, (low, high) in LIMITS.items():
        section, _, option = name.partition(".")
        value = getattr(getattr(config, section), option)
        numbers = value if isinstance(value, tuple) else (value,)
        if value is None or (all(low <= one <= high for one in numbers) and numbers[0] <= numbers[-1]):
            continue
        limits = f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
        order = ", the smaller first" if len(numbers) > 1 else ""
        raise InputError(f"{source}: {name} {value}: {limits} expected{order}")


def build_model(config: Config, source: str = "config") -> Any:
    """The config's network, with the weights it starts from."""
    return build(config.name, config.arguments, source)


def to_yaml(config: Config) -> str:
    """Every option, defaults too: what a run folder keeps."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value

    return yaml.safe_dump(plain(asdict(config)), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise InputError(f"{path}: its bases lead back to itself")
    if not path.is_file():
        raise InputError(f"{path}: no such config file")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no YAML ({one_line(error)})") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: a mapping of sections is expected")
    base = values.pop("base", None)
    if base is None:
        return values
    return _merge(_read_yaml(path.parent / base, (*seen, path.resolve())), values)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = _merge(below[key], value) if both else value
    return merged
