"""Painted people and a hand-made explanation of two of them, the second standing lower and to the right."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

HEIGHT, WIDTH = 192, 96
DOWN, ACROSS = 24, 12


def paint_person(seed: int, down: int = 0, across: int = 0) -> Image.Image:
    """A figure of ellipses and boxes in the colours of `seed`, 192 × 96, shifted by pixels."""
    random = np.random.default_rng(seed)
    colour = [tuple(int(v) for v in random.integers(30, 225, 3)) for _ in range(4)]
    image = Image.new("RGB", (WIDTH, HEIGHT), (150, 156, 150))
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 150, WIDTH, HEIGHT], fill=(120, 116, 108))
    x, y = WIDTH // 2 - 6 + across, 12 + down
    draw.ellipse([x - 10, y, x + 10, y + 24], fill=(205, 160, 130))
    draw.pieslice([x - 11, y - 2, x + 11, y + 20], 180, 360, fill=colour[3])
    draw.rounded_rectangle([x - 20, y + 26, x + 20, y + 78], 8, fill=colour[0])
    draw.rectangle([x - 20, y + 44, x + 20, y + 52], fill=colour[1])
    draw.rectangle([x - 26, y + 30, x - 20, y + 76], fill=colour[0])
    draw.rectangle([x + 20, y + 30, x + 26, y + 76], fill=colour[0])
    draw.rectangle([x - 16, y + 78, x - 2, y + 146], fill=colour[2])
    draw.rectangle([x + 2, y + 78, x + 16, y + 146], fill=colour[2])
    return image


def scale_of(height: int, width: int, sharpness: float = 1.4) -> SimpleNamespace:
    """Every place of a looks at the place of b that shows the same pixels of the shifted person."""
    rows, columns = (grid.ravel().astype(float) for grid in np.mgrid[:height, :width])
    goal_r = np.minimum(rows + DOWN * height / HEIGHT, height - 1)
    goal_c = np.minimum(columns + ACROSS * width / WIDTH, width - 1)
    distance = (goal_r[:, None] - rows) ** 2 + (goal_c[:, None] - columns) ** 2
    blur = np.linspace(0.4, 3.0, len(rows))[:, None]  # surer at the head than at the feet
    logits = -sharpness * distance / blur
    beta = np.exp(logits - logits.max(axis=1, keepdims=True))
    beta /= beta.sum(axis=1, keepdims=True)
    across, down = (columns + 0.5) / width - 0.5, (rows + 0.5) / height - 0.4
    bump = np.exp(-20 * across**2 - 8 * down**2) + 0.15
    attention = (bump / bump.sum()).reshape(height, width)
    return SimpleNamespace(
        correspondence=beta.astype(np.float32),
        attention_a=attention.astype(np.float32),
        attention_b=np.roll(attention, 1, axis=0).astype(np.float32),
        height=height,
        width=width,
    )


def make_explanation() -> SimpleNamespace:
    """What `Matcher.explain` would say about the person and the shifted person, at three scales."""
    return SimpleNamespace(
        probability=0.934,
        scales=[scale_of(6, 3), scale_of(12, 6), scale_of(24, 12)],
        image_a=np.asarray(paint_person(4)),
        image_b=np.asarray(paint_person(4, DOWN, ACROSS)),
    )


@pytest.fixture
def explanation() -> SimpleNamespace:
    return make_explanation()


@pytest.fixture
def people() -> list[Image.Image]:
    """Twelve people, 96 × 192."""
    return [paint_person(seed) for seed in range(12)]
