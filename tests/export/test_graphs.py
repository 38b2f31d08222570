"""The exported networks give what the models give, from plain pictures, for every way KPM compares."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kronreid.export.graphs import EmbedderGraph, EncoderGraph, ScorerGraph, outputs
from kronreid.models.backbone import BackboneOptions
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.kpm import KPM

from .conftest import SIZE, settle


def pixels(tool: Embedder | Matcher, paths: list[Path]) -> torch.Tensor:
    return torch.stack([tool.pixels(path) for path in paths])


@torch.no_grad()
def test_embedder_graph(embedder: Embedder, paths: list[Path]) -> None:
    graph = EmbedderGraph(embedder.model, embedder.input)
    vectors = graph(pixels(embedder, paths)).numpy()
    np.testing.assert_allclose(vectors, embedder.embed(paths), atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": False},
        {"hourglass": False},
        {"match": False, "attention": False},
        {"match": False, "attention": False, "hourglass": False, "normalisation": "absolute"},
        {"match": False, "attention": False, "normalisation": "square-before"},
        {"normalisation": "square-before"},
        {"scale_losses": True, "normalisation": "absolute"},
        {"warp": False, "attention": False, "hourglass": False},
        {"match": False, "attention": False, "normalisation": "none"},
        {"match": False, "attention": False, "normalisation": "concatenated", "batch_norm": False},
        {"similarity": "product", "warped": "first"},
    ],
)
@torch.no_grad()
def test_encoder_and_scorer_graph(matcher: Matcher, paths: list[Path], options: dict[str, Any]) -> None:
    torch.manual_seed(2)
    model = KPM(BackboneOptions("test_resnet", "none"), temperature=0.2, **options)
    settle(model, matcher.batch(list(pixels(matcher, paths))))
    tool = Matcher(model, SIZE)
    example = model.encode(tool.batch(list(pixels(tool, paths))))
    encoded = dict(zip(outputs(example), EncoderGraph(model, SIZE)(pixels(tool, paths)), strict=True))
    np.testing.assert_allclose(encoded["pooled"].numpy(), tool.embed(paths), atol=1e-5)
    scorer = ScorerGraph(model, example).eval()
    inputs = [
        encoded[name.removeprefix("query_")][2:5]
        if name.startswith("query_")
        else encoded[name.removeprefix("candidate_")]
        for name in scorer.names
    ]
    logits = scorer(*inputs)
    expected = tool.logits(tool.encode(paths[2:5]), tool.encode(paths))
    assert logits.shape == expected.shape == (3, 7)
    assert float(expected.std()) > 1e-3
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), atol=2e-3, rtol=1e-3)
