"""The card of a model: the `README.md` of its folder, with a YAML header as the Hugging Face hub expects it.

`card` writes it from what the folder holds: the model's options, and where they are there the record of its
training, the results of `kronreid evaluate --json`, places and a calibration. What is not known is said to be
unknown.
"""

from pathlib import Path
from typing import Any

import yaml

from kronreid.data.check import Description
from kronreid.data.files import written_whole
from kronreid.models.calibration import Calibration
from kronreid.models.card_texts import FORBIDDEN, INTENDED, LICENCE, LIMITS, NO_DATA, TERMS
from kronreid.models.folders import CARD, HUB_ID, without_folders
from kronreid.models.known import Figures, Known, read, section
from kronreid.text import visible

#: Stands in a card that is written again when its folder changes.
MARK = "<!-- kronreid writes this card again when the folder changes. Remove this line to keep your text. -->"
#: The figures of an evaluation, and their titles.
RATES = {"rank1": "rank-1", "rank5": "rank-5", "rank10": "rank-10", "mAP": "mAP", "mINP": "mINP"}


def write_card(folder: Path) -> None:
    """Write the card of a model folder, unless there is one that somebody has written or changed.

    Raises:
        InputError: The file cannot be written.
    """
    if own_card(folder) is None:
        with written_whole(folder / CARD) as new:
            new.write_text(card(folder, folder.resolve().name, MARK), encoding="utf-8")


def own_card(folder: Path) -> bytes | None:
    """The card of a model folder that somebody has written or changed; None without one."""
    file = folder / CARD
    content = file.read_bytes() if file.is_file() else b""
    return None if not content or MARK.encode() in content else content


def card(folder: Path, name: str, mark: str = "") -> str:
    """The card of a model folder.

    Args:
        folder: The folder. It holds at least ``config.json`` and ``model.safetensors``.
        name: The model's name: its id on the hub, or the name of its folder.
        mark: A comment to put at its head.
    """
    known = read(folder)
    parts = [
        f"---\n{yaml.safe_dump(header(known, name), sort_keys=False, allow_unicode=True)}---",
        mark,
        f"# {_plain(name)}",
        *_model(known, name),
        *_training(known),
        *_evaluation(known),
        *_calibration(known.calibration),
        *INTENDED,
        *FORBIDDEN,
        *LIMITS,
        "## Licence",
        f"{_terms(known.data)} {LICENCE}",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def header(known: Known, name: str) -> dict[str, Any]:
    """The card's header: plain values for YAML."""
    found: dict[str, Any] = {
        "license": "other",
        "license_name": "terms-of-the-training-data",
        "library_name": "kronreid",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["kronreid", "person-re-identification", str(known.config.get("name"))],
    }
    backbone = section(section(known.config, "arguments"), "backbone")
    base = _base_model(str(backbone.get("name", "")), str(backbone.get("weights", "")))
    if base:
        found["base_model"] = base
    if known.data is not None and known.data.verdict == "agrees":
        found["datasets"] = [known.data.layout]
    if known.evaluations:
        found["metrics"] = list(RATES.values())
        found["model-index"] = [
            {
                "name": visible(name),
                "results": [
                    {
                        "task": {"type": "image-feature-extraction", "name": "Person re-identification"},
                        "dataset": {
                            "name": visible(f"{one.data.name}, protocol {figures.protocol}"),
                            "type": one.data.layout,
                            "split": "test",
                        },
                        "metrics": [
                            {"type": title, "name": f"{title} ({how})", "value": getattr(figures, rate)}
                            for rate, title in RATES.items()
                        ],
                    }
                    for one in known.evaluations
                    for how, figures in one.rankings()
                ],
            }
        ]
    return found


def _base_model(name: str, weights: str) -> str | None:
    """The model on the hub whose weights the backbone began with."""
    if weights == "imagenet":
        return f"timm/{name}"
    match = HUB_ID.fullmatch(weights)
    return match["name"] if match else None


def _model(known: Known, name: str) -> list[str]:
    kind = "a pair model" if known.pairs else "an embedding model"
    does = (
        "It scores two pictures of people: the probability that they show the same person."
        if known.pairs
        else "It turns a picture of a person into a vector. Vectors of one person are similar."
    )
    use = (
        f'matcher = kronreid.load("{_plain(name)}")\nscores = matcher.score("who.jpg", ["a.jpg", "b.jpg"])'
        if known.pairs
        else f'embedder = kronreid.load("{_plain(name)}")\nvectors = embedder.embed(["a.jpg", "b.jpg"])'
    )
    config, size = known.config, section(known.config, "input")
    backbone = section(section(config, "arguments"), "backbone")
    mirror = "; averaged with its mirror image" if size.get("mirror") else ""
    places = (
        f"{known.places.bytes_per_picture:,} bytes a picture, of {', '.join(known.places.options.levels)}"
        if known.places
        else "none"
    )
    return [
        f"This is {kind} for person re-identification, made with kronreid. {does}",
        f"```python\nimport kronreid\n\n{use}\n```",
        _table(
            ("", ""),
            [
                ("model", f"`{config.get('name')}`"),
                ("backbone", f"`{backbone.get('name', 'resnet50.tv_in1k')}`"),
                ("initial weights of the backbone", f"`{backbone.get('weights', 'imagenet')}`"),
                ("input", f"{size.get('height')} × {size.get('width')} pixels (height × width), RGB{mirror}"),
                ("places, which re-rank and explain", places),
                ("fingerprint", f"`{known.fingerprint}`"),
            ],
        ),
    ]


def _training(known: Known) -> list[str]:
    parts = ["## Training data", *([NO_DATA] if known.data is None else [])]
    if known.data is not None:
        people, pictures = (of.get("train", 0) for of in (known.data.identities, known.data.pictures))
        split = f", split {known.data.split}" if known.data.split else ""
        parts.append(f"{_plain(known.data.name)}{split}, {pictures:,} pictures of {people:,} people.")
        parts.append(_terms(known.data))
    parts.append("## Training")
    if known.options is None:
        return [*parts, "How it was trained is not known."]
    names = ("training", "optimiser", "batch", "places")
    training, optimiser, batch, places = (section(known.options, name) for name in names)
    rows = [
        ("seed", training.get("seed")),
        ("iterations", training.get("iterations")),
        ("batch", f"{batch.get('identities')} people × {batch.get('pictures')} pictures"),
        ("optimiser", f"{optimiser.get('name')}, learning rate {optimiser.get('lr')}"),
        ("precision", training.get("precision")),
    ]
    if known.places:
        rows.append(("seed of the places", places.get("seed")))
    if known.row:
        rows.insert(0, ("row of the papers' tables", f"`{known.row[0]}`"))
        changes = (f"`{name}={_of(values)}`" for name, values in known.row[1].items())
        rows.insert(1, ("options that differ from the row", ", ".join(changes) or "none"))
    text = yaml.safe_dump(known.options, sort_keys=False, allow_unicode=True)
    return [
        *parts,
        _table(("", ""), rows),
        f"<details><summary>All options</summary>\n\n```yaml\n{text}```\n\n</details>",
    ]


def _of(values: Any) -> Any:
    """The run's value of an option that was changed, of the row's value and the run's."""
    return without_folders(values[1]) if isinstance(values, list) and len(values) == 2 else values


def _evaluation(known: Known) -> list[str]:
    parts = ["## Evaluation"]
    if known.evaluations:
        rows = []
        for one in known.evaluations:
            for how, figures in one.rankings():
                cells = [_rate(figures, rate) for rate in RATES]
                rows.append((one.data.name, figures.protocol, how, *cells, figures.queries, figures.gallery))
        parts.append(
            _table(("data", "protocol", "ranking", *RATES.values(), "queries", "gallery"), rows)
            + "\n\nRates are in per cent. The brackets are 95 % intervals over samples of the people. The "
            "exact values are in the header of this card."
        )
    else:
        parts.append(
            "This model is not evaluated: its folder holds no result of `kronreid evaluate --json` for these "
            "weights."
        )
    if known.measured:
        rank1, precision = (f"{100 * float(known.measured[name]):.2f}" for name in ("rank1", "mAP"))
        protocol = f" by the protocol {known.data.protocol}" if known.data else ""
        parts.append(
            f"At the end of its training{protocol}, without places: rank-1 {rank1} %, mAP {precision} %."
        )
    if known.best:
        parts.append(
            "This is the best of several states of one training, chosen by its mAP on the test pictures. "
            "Figures on these pictures are too good for it."
        )
    return parts


def _rate(figures: Figures, rate: str) -> str:
    """A rate in per cent, with its interval where it is known."""
    interval = getattr(figures, f"{rate}_interval", None)
    within = f" ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})" if interval else ""
    return f"{100 * getattr(figures, rate):.2f}{within}"


def _calibration(calibration: Calibration | None) -> list[str]:
    if calibration is None:
        return [
            "## Calibration",
            "This model is not calibrated: nobody has measured which score means the same person.",
        ]
    rows = [
        (
            f"1 in {1 / point.rate:,.0f} searches",
            name,
            f"{point.threshold:.4f}",
            f"{point.low:.4f} to {point.high:.4f}",
        )
        for name, score in (("similarity", calibration.similarity), ("logit", calibration.logit))
        for point in (score.points if score else ())
    ]
    said = (
        f"Measured on {calibration.people:,} people of {_plain(calibration.folder)} (protocol "
        f"{_plain(calibration.protocol)}), with {calibration.gallery:,} pictures in the gallery."
    )
    few = "There were too few searches for a threshold."
    return [
        "## Calibration",
        said,
        _table(("false alarms", "score", "threshold", "95 % interval"), rows) if rows else few,
    ]


def _terms(data: Description | None) -> str:
    if data is None:
        return NO_DATA
    return TERMS[data.verdict]


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines)


def _plain(value: Any) -> str:
    """A value as text on one line that cannot end a cell or begin HTML."""
    return visible(str(value)).replace("|", "\\|").replace("<", "&lt;")
