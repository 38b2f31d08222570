"""Detectors of transformers: a tiny RT-DETR with random weights that is saved in a folder."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import kronreid.torchvision_guard  # noqa: F401
from kronreid.cameras.detectors import named
from kronreid.cameras.detectors.tiles import NetworkDetector
from kronreid.errors import InputError


@pytest.fixture(scope="session")
def save_detector(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves a detector with the given classes; its folder is only read."""
    from transformers import (
        RTDetrConfig,
        RTDetrForObjectDetection,
        RTDetrImageProcessor,
        RTDetrResNetConfig,
    )

    def save(*classes: str) -> Path:
        torch.manual_seed(0)
        backbone = RTDetrResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16, 16, 16],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        )
        config = RTDetrConfig(
            backbone_config=backbone,
            encoder_hidden_dim=16,
            encoder_in_channels=[16, 16, 16],
            encoder_layers=1,
            encoder_ffn_dim=16,
            encoder_attention_heads=2,
            d_model=16,
            num_queries=20,
            decoder_in_channels=[16, 16, 16],
            decoder_ffn_dim=16,
            decoder_layers=1,
            decoder_attention_heads=2,
            num_denoising=0,
            id2label=dict(enumerate(classes)),
            label2id={name: number for number, name in enumerate(classes)},
        )
        folder = tmp_path_factory.mktemp("detector")
        RTDetrForObjectDetection(config).save_pretrained(folder)
        RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
        return folder

    return save


def test_a_detector_of_a_folder(save_detector: Callable[..., Path]) -> None:
    folder = save_detector("car", "person")
    detector = named(str(folder), threshold=0.0, tiles="none")
    assert isinstance(detector, NetworkDetector)
    assert detector.network.size == (64, 64)
    image = np.random.default_rng(0).integers(0, 255, (90, 160, 3)).astype(np.uint8)
    found = detector(image)
    boxes, scores = detector.network.find(image)
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    processor = AutoImageProcessor.from_pretrained(folder)
    outputs = AutoModelForObjectDetection.from_pretrained(folder)(**processor(image, return_tensors="pt"))
    (expected,) = processor.post_process_object_detection(outputs, 0.0, [(90, 160)])
    people = expected["labels"] == 1
    np.testing.assert_allclose(boxes, expected["boxes"][people].detach().numpy(), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(scores, expected["scores"][people].detach().numpy(), rtol=1e-4)
    assert 0 < len(found) <= len(boxes)
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, :2] + found.boxes[:, 2:] <= (160, 90)).all()
    other = named(str(folder))
    assert isinstance(other, NetworkDetector)
    assert other is not detector
    assert other.network is detector.network, "two sources share one network"

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"d_model": 32}))
    del detector, other
    with pytest.raises(InputError, match=r"do not fit its config|is no detector that transformers can read"):
        named(str(folder))


def test_what_is_no_detector(save_detector: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="finds car, dog, but no class person"):
        named(str(save_detector("car", "dog")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is no detector that transformers can read") as error:
        named(str(tmp_path / "empty"))
    assert "\n" not in str(error.value)


def test_weights_are_never_unpickled(save_detector: Callable[..., Path]) -> None:
    folder = save_detector("person")
    (folder / "model.safetensors").unlink()
    torch.save({"anything": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="is no detector that transformers can read"):
        named(str(folder))
