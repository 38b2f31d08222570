"""The options of a training, and where they come from: a row, or a YAML file of your own.

A config file may start from a row or another file, which it names in `base:`. It then holds only the
changes::

    base: horeid/market1501/horeid
    model:
      order: 2
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from kronreid.data.transforms import AugmentOptions, InputOptions
from kronreid.errors import InputError, one_line
from kronreid.losses import LOSSES, Loss
from kronreid.losses.options import LossOptions, loss_options
from kronreid.models import MODELS
from kronreid.models.storage import build
from kronreid.options import NotNegative, Positive, Share, Weight, checked
from kronreid.papers.rows import merge, row_options
from kronreid.registry import NO_PLUGIN, nearest
from kronreid.training.places import FitOptions


@dataclass(frozen=True)
class DataOptions:
    """What the model learns from.

    Attributes:
        root: Folder of the data set. ``--data`` overrides it. ``${VARIABLE}`` is replaced by a variable of
            the environment.
        layout: How the data set is laid out. None takes `usual_layout` if the root looks like it, and
            otherwise the layout that is found.
        protocol: How it is evaluated while training. None takes `usual_protocol` for data of the usual
            layout, and otherwise the layout's own.
        usual_layout: The layout of the data set that the config was written for. It decides if a root could
            have several layouts. Data of other layouts can be read, too.
        usual_protocol: How that data set is evaluated; None takes the layout's own protocol.
        split: Which division into training and test, for a data set with several (CUHK03: 0 to 19).
        workers: Processes that load pictures.
        keep: Keep decoded pictures in memory.
    """

    root: str | None = None
    layout: str | None = None
    protocol: str | None = None
    usual_layout: str | None = None
    usual_protocol: str | None = None
    split: int = 0
    workers: NotNegative = 2
    keep: bool = True

    def protocol_for(self, layout: str | None) -> str | None:
        """The protocol for data of a layout; None for the layout's own."""
        return self.protocol or (self.usual_protocol if layout == self.usual_layout else None)


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is made up.

    Attributes:
        identities: P of the PK batch, over all processes together.
        pictures: K, the number of pictures of each identity.
        across_cameras: Take an identity's pictures from different cameras if there are several.
        hard_identities: Epochs between two searches for identities that look alike (GHIS, Zhang et al. 2019).
            A batch then has a random identity and its nearest ones. 0 draws all identities at random.
        negatives: Negative pairs for each positive one (pair models).
        hard_negatives: How many of them are the most similar pairs of the batch instead of random ones.
    """

    identities: Positive = 64
    pictures: Positive = 4
    across_cameras: bool = False
    hard_identities: NotNegative = 0
    negatives: Positive = 3
    hard_negatives: NotNegative = 0


@dataclass(frozen=True)
class OptimiserOptions:
    """How the loss is minimised. All schedules count iterations.

    Attributes:
        name: ``sgd`` as in the papers, or ``adamw``.
        lr: Learning rate of the backbone, and of new layers if `new_lr` is not given.
        new_lr: Learning rate of the layers that do not start from pretrained weights.
        layer_decay: Factor between the learning rates of two neighbouring layers of the backbone. The last
            layer has `lr`, the one before it lr · `layer_decay`, and so on. Transformers are usually
            fine-tuned with 0.65 to 0.9.
        momentum: Of SGD.
        weight_decay: L2 penalty (SGD) or decoupled decay (AdamW).
        schedule: ``step`` multiplies the rate by `factor` every `decay_iterations` (HOReID). ``gradual`` goes
            evenly from lr to lr · `factor` within `decay_iterations` and stays there (KPM). ``cosine`` ends
            at lr · `factor`.
        decay_iterations: See `schedule`.
        factor: See `schedule`.
        warmup: Iterations at the start in which the rate rises linearly.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Weight = 0.01
    new_lr: Weight | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    momentum: Share = 0.9
    weight_decay: Weight = 2e-4
    schedule: Literal["step", "gradual", "cosine"] = "step"
    decay_iterations: Positive = 20_000
    factor: Share = 0.2
    warmup: NotNegative = 0


@dataclass(frozen=True)
class TrainingOptions:
    """How long, how precisely, and where.

    Attributes:
        iterations: Number of batches, a multiple of `epoch`.
        epoch: Iterations of an epoch, the unit of checkpoints and log lines. HOReID's lineage takes 100.
        evaluate_every: Epochs between two evaluations on the query and gallery pictures; 0 for none.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        average_weights: Decay of a running mean of the weights. The mean is evaluated and saved. 0 turns it
            off.
        early_iterations: The first iterations, which see smaller pictures (progressive resizing).
        early_scale: Height and width of those smaller pictures, as a share of the input's.
        seed: Seed of initial weights, batches and random changes.
        devices: Processes on this machine.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
    """

    iterations: Positive = 75_000
    epoch: Positive = 100
    evaluate_every: NotNegative = 10
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    average_weights: Annotated[float, Field(ge=0, lt=1)] = 0.0
    early_iterations: NotNegative = 0
    early_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    devices: Positive = 1
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"

    def __post_init__(self) -> None:
        if self.iterations % self.epoch:
            raise InputError("", f"iterations {self.iterations} must be a multiple of epoch {self.epoch}")


@dataclass(frozen=True)
class Config:
    """All options of a training.

    Attributes:
        model: ``name`` and the model's own options.
        input: Size and normalisation of the pictures.
        augment: Random changes of the pictures.
        data: What the model learns from.
        batch: How a batch is made up.
        loss: What is minimised.
        optimiser: How the loss is minimised.
        training: How long, how precisely, and where.
        places: How an embedder's place matching is fitted, and whether that is done when it is trained.
    """

    model: dict[str, Any]
    input: InputOptions = field(default_factory=InputOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    data: DataOptions = field(default_factory=DataOptions)
    batch: BatchOptions = field(default_factory=BatchOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    places: FitOptions = field(default_factory=FitOptions)

    def __post_init__(self) -> None:
        _ = self.early_input  # raises here rather than in the first iteration

    @property
    def early_input(self) -> InputOptions:
        """The size of the pictures of the first iterations.

        Raises:
            InputError: It is too small.
        """
        size, scale = self.input, self.training.early_scale
        try:
            return replace(size, height=round(size.height * scale), width=round(size.width * scale))
        except InputError as error:
            raise InputError(f"training.early_scale {scale:g}", error.what) from None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model["name"]

    @property
    def arguments(self) -> dict[str, Any]:
        """The model's own options."""
        return {key: value for key, value in self.model.items() if key != "name"}


def read_config(source: str | Path, changes: Sequence[str] = ()) -> Config:
    """Read the options of a row or a config file, on top of its bases, with changes on top of them.

    Args:
        source: A row's name (`kronreid.papers.row_names`) or a YAML file.
        changes: ``section.key=value`` each, the value in YAML, as ``--set`` takes them.

    Raises:
        InputError: There is no such row or file, the file is no YAML, a key is unknown, or a value has the
            wrong type.
    """
    return make_config(changed(_values(str(source), Path(), seen=()), changes), source=str(source))


def read_place_options(run: Path, changes: Sequence[str] = ()) -> FitOptions:
    """How the places of a trained embedder are fitted: its run's options, if it has some, with changes above
    them.

    Args:
        run: The model's folder.
        changes: As in `read_config`, of the section ``places`` alone.

    Raises:
        InputError: See `read_config`; or a change is of another section.
    """
    file = run / "config.yaml"
    values = _values(str(file), Path(), seen=()) if file.is_file() else {}
    values = changed({"places": values.get("places", {})}, changes)
    if odd := sorted(values.keys() - {"places"}):
        raise InputError(f"--set {odd[0]}", "only places are fitted here; set options like places.numbers=32")
    return checked(FitOptions, values["places"], f"{run}: places")


def changed(values: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Values with changes above them, ``section.key=value`` each; the values are changed in place."""
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise InputError(f"--set {change}", "expected section.key=value, like training.iterations=200")
        *sections, last = key.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise InputError(f"--set {change}", f"{section!r} is a value, not a section")
        try:
            place[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {change}", f"the value is no YAML ({one_line(error)})") from None
    return values


def make_config(values: dict[str, Any], source: str = "config") -> Config:
    """Check plain values against the options' types.

    Raises:
        InputError: A key is unknown, or a value has the wrong type or is out of range.
    """
    values = dict(values)
    model = values.pop("model", None)
    if not isinstance(model, dict) or "name" not in model:
        raise InputError(source, f"'model' needs a name; one of {', '.join(MODELS)}")
    losses = tuple(LOSSES.items())
    loss, known = values.get("loss"), [option.name for option in fields(loss_options(losses))]
    for name in loss if isinstance(loss, Mapping) else ():
        if name not in known:
            near = nearest(str(name), known)
            raise InputError(source, f"loss.{name} is unknown; {near} {NO_PLUGIN}")
    return checked(_config_with(losses), {"model": model, **values}, source)


@cache
def _config_with(losses: tuple[tuple[str, type[Loss]], ...]) -> type[Config]:
    """`Config` with the options of these losses."""
    options = loss_options(losses)
    loss = ("loss", options, field(default_factory=options))
    return make_dataclass("Config", [loss], bases=(Config,), frozen=True)


def build_model(config: Config, source: str = "config") -> Any:
    """The config's network, with its initial weights."""
    return build(config.name, config.arguments, source, (config.input.height, config.input.width))


def to_yaml(config: Config) -> str:
    """All options as YAML, with defaults. A run's folder keeps it."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value

    return yaml.safe_dump(plain(asdict(config)), sort_keys=False, allow_unicode=True)


def _values(source: str, folder: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The options of a row, or of a file relative to `folder`; `seen` are the files that led to it."""
    path = folder / source
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        return row_options(source)
    if path.resolve() in seen:
        raise InputError(path, "its bases lead back to itself")
    if not path.is_file():
        raise InputError(path, "no such config file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(path, f"no YAML ({one_line(error)})") from None
    if not isinstance(values, dict):
        raise InputError(path, "a mapping of sections is expected")
    base = values.pop("base", None)
    if base is None:
        return values
    return merge(_values(str(base), path.parent, (*seen, path.resolve())), values)
