"""Opening models: what is opened embeds or scores as the network does, and what cannot be opened is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.loading import load, wrap
from kronreid.models.storage import build, save


def test_load(tmp_path: Path, paths: list[Path], input_options: InputOptions) -> None:
    backbone = {"name": "mobilenetv2_050", "weights": "none"}
    for name, kind in (("pooled", Embedder), ("kpm", Matcher)):
        arguments: dict[str, Any] = {"backbone": backbone}
        model = build(name, arguments).eval()
        save(tmp_path / name, name, arguments, input_options, model)
        tool = load(tmp_path / name, device="cpu")
        assert type(tool) is kind
        assert tool.path == tmp_path / name
        assert len(tool.fingerprint) == 64
        assert load(str(tmp_path / name), device="cpu").fingerprint == tool.fingerprint
        np.testing.assert_allclose(tool.embed(paths), wrap(model, input_options).embed(paths), atol=1e-5)


@pytest.mark.parametrize("device", ["gpu0", *([] if torch.cuda.is_available() else ["cuda"])])
def test_a_device_that_is_not_there_is_named(
    tmp_path: Path, input_options: InputOptions, device: str
) -> None:
    arguments = {"backbone": {"name": "test_resnet", "weights": "none"}, "channels": 8}
    save(tmp_path, "pooled", arguments, input_options, build("pooled", arguments))
    with pytest.raises(InputError, match=f"device {device}: cannot be used"):
        load(tmp_path, device=device)


def test_load_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="^" + str(path)):
            load(path)
