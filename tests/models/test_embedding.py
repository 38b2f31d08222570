"""Pictures averaged with their mirror images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.models.embedding import embedded
from kronreid.models.horeid import HOReID
from kronreid.models.inference import Embedder
from kronreid.models.kpm import KPM
from kronreid.models.loading import wrap


@pytest.fixture(scope="module")
def pictures(paths: list[Path], input_options: InputOptions) -> list[Image.Image]:
    """At the network's size, so that resizing and mirroring commute."""
    size = (input_options.width, input_options.height)
    return [Image.open(path).convert("RGB").resize(size) for path in paths]


def wrapped(horeid: HOReID, options: InputOptions, mirror: bool) -> Embedder:
    tool = wrap(horeid, replace(options, mirror=mirror))
    assert isinstance(tool, Embedder)
    return tool


@torch.no_grad()
def test_means_of_both_written_out(horeid: HOReID, images: Tensor) -> None:
    plain, mirrored = horeid(images), horeid(images.flip(3))
    found = embedded(horeid, images, mirror=True)
    expected = F.normalize((plain.descriptor + mirrored.descriptor) / 2)
    torch.testing.assert_close(found.descriptor, expected, atol=1e-4, rtol=0)
    assert list(found.maps) == list(plain.maps)
    for name, values in found.maps.items():
        width = values.shape[3]
        for column in range(width):
            mean = (plain.maps[name][..., column] + mirrored.maps[name][..., width - 1 - column]) / 2
            torch.testing.assert_close(values[..., column], mean, atol=1e-3, rtol=1e-3)
    assert not found.branches
    assert not found.parts


@torch.no_grad()
def test_without_mirror_images_it_is_the_model(horeid: HOReID, images: Tensor) -> None:
    torch.testing.assert_close(embedded(horeid, images).descriptor, horeid(images).descriptor)


def test_a_picture_and_its_mirror_image_have_one_vector(
    horeid: HOReID, input_options: InputOptions, pictures: list[Image.Image]
) -> None:
    tool = wrapped(horeid, input_options, mirror=True)
    mirrored = [ImageOps.mirror(picture) for picture in pictures]
    vectors = tool.embed(pictures)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(tool.embed(mirrored), vectors, atol=1e-4)
    plain = wrapped(horeid, input_options, mirror=False)
    assert np.abs(plain.embed(mirrored) - plain.embed(pictures)).max() > 0.01, "they differ without it"
    (of_pictures,), (of_mirrored,) = tool.embeddings(pictures), tool.embeddings(mirrored)
    for name, maps in of_pictures.maps.items():
        torch.testing.assert_close(of_mirrored.maps[name].flip(3), maps, atol=1e-3, rtol=1e-3)


def test_the_fast_form_gives_the_same(
    horeid: HOReID, input_options: InputOptions, pictures: list[Image.Image]
) -> None:
    tool = wrapped(horeid, input_options, mirror=True)
    expected = tool.embed(pictures)
    tool.fast = True
    np.testing.assert_allclose(tool.embed(pictures), expected, atol=1e-4)


def test_a_pass_has_as_many_pixels(horeid: HOReID, input_options: InputOptions) -> None:
    once, twice = (wrapped(horeid, input_options, mirror).per_pass for mirror in (False, True))
    assert once is not None
    assert twice == once // 2


def test_a_pair_model_has_none(kpm: KPM, input_options: InputOptions) -> None:
    with pytest.raises(InputError, match=r"input\.mirror: is for embedding models"):
        wrap(kpm, replace(input_options, mirror=True))
