"""Two pictures: how similar they are, why, and what that means."""

import base64
import io
import time
from typing import Any

import numpy as np
from PIL import Image

from kronreid.errors import InputError
from kronreid.models.inference import Explanation, ScaleExplanation
from kronreid.models.place_matcher import PairExplanation, PlaceMatcher
from kronreid.serve import schemas
from kronreid.serve.batching import ModelThread, seen
from kronreid.serve.uploads import data_address


def match(models: ModelThread, matcher: Any, a: Image.Image, b: Image.Image) -> schemas.MatchAnswer:
    """Similarity and probability of two pictures."""
    started = time.perf_counter()
    alike = similarity(models, a, b)
    probability = None
    if matcher is not None:
        one, other = seen(matcher, [a, b])
        probability = float(models.call(lambda: matcher.score([one], [other]))[0, 0])
    return schemas.MatchAnswer(
        similarity=alike,
        probability=probability,
        meaning=meaning(probability, alike, matcher),
        seconds=time.perf_counter() - started,
    )


def explain(
    models: ModelThread, matcher: Any, parts: bool, a: Image.Image, b: Image.Image
) -> schemas.ExplainAnswer:
    """`match` with the reasons: the shares of places, or a pair model's correspondences and attention; and
    the embedder's part maps."""
    started = time.perf_counter()
    alike = similarity(models, a, b)
    why: Explanation | PairExplanation | None = None
    if matcher is not None:
        pair = seen(matcher, [a, b])
        why = models.call(lambda: matcher.explain(*pair))
    maps = None
    if parts:
        both = seen(models, [a, b])
        maps = models.call(lambda: [models.embedder.part_maps(x) for x in both])  # type: ignore[attr-defined]
    shown = (why.image_a, why.image_b) if why else [np.asarray(x.resize((128, 256))) for x in (a, b)]
    probability = why.probability if why else None
    return schemas.ExplainAnswer(
        similarity=alike,
        probability=probability,
        meaning=meaning(probability, alike, matcher),
        picture_a=png(shown[0]),
        picture_b=png(shown[1]),
        scales=[scale_of(scale) for scale in why.scales] if isinstance(why, Explanation) else [],
        places=places_of(why) if isinstance(why, PairExplanation) else None,
        parts_a=parts_of(maps[0]) if maps else None,
        parts_b=parts_of(maps[1]) if maps else None,
        seconds=time.perf_counter() - started,
    )


def has_parts(embedder: Any) -> bool:
    """Whether the embedder has HOReID's part maps. Asks it for one, which also warms it up."""
    if not hasattr(embedder, "part_maps"):
        return False
    try:
        embedder.part_maps(np.zeros((64, 32, 3), np.uint8))
    except InputError:
        return False
    return True


def similarity(models: ModelThread, a: Image.Image, b: Image.Image) -> float:
    """Cosine of the embedder's vectors."""
    vectors = models.embed(seen(models, [a, b])).astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return float(np.clip(vectors[0] @ vectors[1], -1, 1))


def meaning(probability: float | None, alike: float, matcher: Any) -> str:
    """What the numbers mean and do not mean, for someone who must decide."""
    if probability is None:
        return (
            f"The similarity is {alike:.2f}, where 1 means the same picture. It ranks pictures against each "
            "other; by itself it does not say whether this is the same person. For a verdict on the pair, "
            "give the model places with kronreid fit-places, or start the server with a matcher."
        )
    verdicts = (
        (0.95, "takes them for the same person."),
        (0.75, "takes them for the same person, with some doubt."),
        (0.25, "cannot decide."),
        (0.05, "takes them for different persons, with some doubt."),
        (0.0, "takes them for different persons."),
    )
    verdict = next(words for least, words in verdicts if probability >= least)
    places = isinstance(matcher, PlaceMatcher)
    calibration = getattr(matcher, "calibration", None)
    if calibration is not None and calibration.logit is not None:
        basis = (
            f"The probability holds for pairs of which {calibration.same_share:.0%} show the same person; it "
            f"was measured on {calibration.people:,} people."
        ).replace("%", " %")
    else:
        shown = "most of which showed different persons"
        if not places:
            shown = "of which about a quarter showed the same person"
        basis = f"It has learned from pairs {shown}."
    return (
        f"The {'model' if places else 'matcher'} {verdict} {basis} Of many candidates, far fewer show the "
        "same person, so even a high value is a lead to check, not a proof. Similar clothes mislead it."
    )


def places_of(why: PairExplanation) -> schemas.PlaceVerdict:
    """The verdict of the embedder's places for the page."""
    gain, loss = why.places
    return schemas.PlaceVerdict(**why.to_json(), gain=gain, loss=loss)


def scale_of(scale: ScaleExplanation) -> schemas.Scale:
    """One scale for the page: one byte per pair of places, relative to the row's maximum."""
    text, maximum = quantised(scale.correspondence)
    return schemas.Scale(
        height=scale.height,
        width=scale.width,
        correspondence=text,
        row_maximum=maximum,
        attention_a=scale.attention_a.ravel().tolist(),
        attention_b=scale.attention_b.ravel().tolist(),
    )


def parts_of(maps: np.ndarray) -> schemas.PartMaps:
    """Part maps (P, h, w) for the page."""
    text, maximum = quantised(maps.reshape(len(maps), -1))
    count, height, width = maps.shape
    return schemas.PartMaps(count=count, height=height, width=width, maps=text, maximum=maximum)


def quantised(rows: np.ndarray) -> tuple[str, list[float]]:
    """Non-negative rows (R, N) as base64 of bytes, 255 at each row's maximum, and the maxima."""
    maximum = rows.max(axis=1)
    shares = rows / np.maximum(maximum, np.finfo(np.float32).tiny)[:, None]
    return base64.b64encode(np.rint(255 * shares).astype(np.uint8).tobytes()).decode(), maximum.tolist()


def png(picture: np.ndarray) -> str:
    """A picture (H, W, 3) as a ``data:`` address, lossless."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return data_address(buffer.getvalue(), "image/png")
