"""KPM's logits of many pictures against many, by the fast form that fits the model's options.

The plain form that they equal is `KPM.forward`, pair by pair.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from kronreid.errors import InputError
from kronreid.models.kpm import KPM, ConfidenceClassifier, ScaleMaps
from kronreid.ops.blocks import PreparedMaps, prepare, score_block, score_lists
from kronreid.ops.comparisons import by_lists, score_confidences, score_means, score_places, score_warped


def prepare_scales(model: KPM, scales: list[ScaleMaps], dtype: torch.dtype) -> list[PreparedMaps]:
    """What `logits_of_all` and `logits_of_lists` need of some pictures; no more is kept."""
    positions = model.match or model.normalisation == "square-before"
    return [prepare(scale.maps, scale.weight, dtype, positions) for scale in scales]


def logits_of_all(model: KPM, queries: list[PreparedMaps], candidates: list[PreparedMaps]) -> Tensor:
    """Logits (Q, G) of every query with every candidate, which is warped onto it.

    Raises:
        InputError: The maps are not this model's or not finite, or there are none.
    """
    return _logits(model, queries, candidates, None)


def logits_of_lists(
    model: KPM, queries: list[PreparedMaps], candidates: list[PreparedMaps], lists: Tensor
) -> Tensor:
    """Logits (Q, K) of each query with its own candidates, whose numbers are `lists` (Q, K) int64.

    Raises:
        InputError: As in `logits_of_all`, or `lists` is empty or names a candidate that is not there.
    """
    return _logits(model, queries, candidates, lists)


@torch.no_grad()
def _logits(
    model: KPM, queries: list[PreparedMaps], candidates: list[PreparedMaps], lists: Tensor | None
) -> Tensor:
    _check_scales(model, queries, "query")
    _check_scales(model, candidates, "candidates")
    if isinstance(model.classifier, ConfidenceClassifier):
        return _compare(_confidences(model, queries[0]), queries[0], candidates[0], lists)
    head, constants = model.head()
    absolute = model.normalisation == "absolute"
    shares = []
    for x, y, a, b in zip(queries, candidates, head, constants):
        if not torch.isfinite(a).all():
            raise InputError("model: its weights hold NaN or infinity; they are unusable")
        if model.match and model.normalisation == "square-before":
            score = partial(score_warped, head_weight=a, temperature=model.temperature)
            share = _compare(score, x, y, lists)
        elif model.match:
            share = (
                score_block(x, y, a, model.temperature, absolute)
                if lists is None
                else score_lists(x, y, lists, a, model.temperature, absolute)
            )
        elif model.normalisation == "square-before":
            share = _compare(partial(score_places, head_weight=a), x, y, lists)
        else:
            share = _compare(partial(score_means, head_weight=a, absolute=absolute), x, y, lists)
        shares.append(share + b)
    return model.combine(shares)


Comparison = Callable[[PreparedMaps, PreparedMaps], Tensor]


def _compare(score: Comparison, x: PreparedMaps, y: PreparedMaps, lists: Tensor | None) -> Tensor:
    return score(x, y) if lists is None else by_lists(score, x, y, lists)


def _confidences(model: KPM, queries: PreparedMaps) -> Comparison:
    size = queries.size
    if size is None:
        raise InputError("maps: their height and width are not known; prepare them from (N, C, H, W)")
    return partial(
        score_confidences,
        temperature=model.temperature,
        classify=lambda beta: model.classifier(beta, size),
    )


def _check_scales(model: KPM, scales: list[PreparedMaps], which: str) -> None:
    channels = [scale.unit.shape[2] for scale in scales]
    if channels != model.channels:
        raise InputError(
            f"{which}: maps of {channels} channels are not this model's, which are of {model.channels}; "
            "encode both sides with one model"
        )
    if len(scales[0]) == 0:
        raise InputError(f"{which}: there are none to compare; give at least one picture")
