"""What the documents' examples name: pictures, data sets, models and galleries."""

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
from milvus_lite.adapter.grpc.server import start_server_in_thread
from onnx import TensorProto, helper

from kronreid.cli import main
from kronreid.data.readers import read
from kronreid.training import config as configs

from .markdown import ROOT, blocks
from .shell import shrunk


@dataclass(frozen=True)
class Examples:
    """Makes folders that hold what examples name.

    Attributes:
        folder: Where everything is kept.
        names: Where each name of the examples leads to.
    """

    folder: Path
    names: dict[str, Path]

    def lay_out(self, document: Path, place: Path) -> Path:
        """A folder with everything that a document names, but for what its own commands make."""
        text = "\n".join(block.text for block in blocks(document))
        for name, kept in self.names.items():
            made = rf"--out {name}\b|index .*--gallery {name}\b|Gallery\(\"{name}\", embedder"
            if re.search(made, text):
                continue
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            if kept.suffix == ".gallery" or name.startswith(("demo", "runs")):  # which are written to
                shutil.copytree(kept, place / name, symlinks=True)
            else:
                (place / name).symlink_to(kept)
        return place


@pytest.fixture(scope="session")
def examples(
    tmp_path_factory: pytest.TempPathFactory, pedestrians: Path, save_tiny_models: Callable[..., None]
) -> Examples:
    """Generated pedestrians, tiny models that have learned nothing, and a gallery."""
    folder = tmp_path_factory.mktemp("examples")
    query = sorted((pedestrians / "query").iterdir())
    crops = pedestrians / "bounding_box_test"
    market = read(pedestrians, "market1501")
    for picture in (*market.train, *market.query, *market.gallery):
        if picture.identity > 0:
            person = folder / "people" / f"{picture.identity}"
            person.mkdir(parents=True, exist_ok=True)
            (person / f"{picture.camera}_{picture.path.name}").symlink_to(picture.path)
    for picture in (*market.train, *market.query, *market.gallery):  # the first of each person and camera
        viper = folder / "VIPeR" / f"cam_{'ab'[picture.camera - 1]}" / f"{picture.identity:03d}_45.jpg"
        viper.parent.mkdir(parents=True, exist_ok=True)
        if picture.identity > 0 and not viper.is_symlink():
            viper.symlink_to(picture.path)
    save_tiny_models(folder / "runs", hourglass=False)  # an export of three scales takes much longer
    fit = ["fit-places", str(folder / "runs" / "horeid"), "--data", str(pedestrians)]
    assert main([*fit, "--set", "places.steps=2", "places.lists=2"]) == 0
    shutil.copytree(folder / "runs" / "horeid", folder / "runs" / "horeid-without-dsr")
    gap = ["train", "horeid/market1501/gap", "--data", str(pedestrians)]
    with mock.patch.object(configs, "read_config", shrunk):
        assert main([*gap, "--out", str(folder / "runs" / "gap")]) == 0
    people = folder / "people.gallery"
    assert main(["index", str(crops), "--model", str(folder / "runs/horeid"), "--gallery", str(people)]) == 0
    write_network(folder / "osnet.onnx")
    write_keypoints(folder / "keypoints.json", ["a.jpg", "b.jpg"])
    demo = folder / "demo"
    demo.mkdir()
    (demo / "data").symlink_to(pedestrians)
    (demo / "runs").symlink_to(folder / "runs")
    (demo / "query.jpg").symlink_to(query[0])
    shutil.copytree(people, demo / "people.gallery")
    names = {
        "who.jpg": query[0],
        "new.jpg": query[1],
        "a.jpg": query[2],
        "b.jpg": query[3],
        "crops": crops,
        "market1501": pedestrians,
        "people": folder / "people",
        "VIPeR": folder / "VIPeR",
        "people.gallery": people,
        "osnet.onnx": folder / "osnet.onnx",
        "frame.jpg": query[0],
        "keypoints.json": folder / "keypoints.json",
        "demo": demo,
        **{f"runs/{run.name}": run for run in (folder / "runs").iterdir()},
        "configs": ROOT / "configs",
        "benchmarks": ROOT / "benchmarks",
    }
    return Examples(folder, names)


def write_keypoints(path: Path, pictures: list[str]) -> None:
    """A pose estimator's results in COCO's format: all 17 keypoints of each picture, on a slanted line."""
    keypoints = [value for number in range(17) for value in (8 + number, 3 + 3 * number, 2)]
    results = [
        {"image_id": picture, "category_id": 1, "keypoints": keypoints, "score": 0.9} for picture in pictures
    ]
    path.write_text(json.dumps(results))


def write_network(path: Path) -> None:
    """Somebody else's network: the means of 8 × 8 squares of a picture of 64 × 32."""
    nodes = [
        helper.make_node("AveragePool", ["input"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    shapes = {"input": ["N", 3, 64, 32], "features": ["N", 96]}
    taken, given = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
    )
    graph = helper.make_graph(nodes, "network", [taken], [given])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


@pytest.fixture(scope="session")
def milvus_lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of Milvus's protocol on the loopback interface."""
    server, database, port = start_server_in_thread(str(tmp_path_factory.mktemp("milvus") / "server"))
    yield f"http://127.0.0.1:{port}"
    server.stop(grace=0)
    database.close()


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The Hugging Face hub on the loopback interface, and a token for it."""
    spec = importlib.util.spec_from_file_location("fake_hub", ROOT / "tests" / "models" / "fake_hub.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)  # tests of one room cannot import those of another
    monkeypatch.setitem(sys.modules, "fake_hub", made)
    spec.loader.exec_module(made)
    monkeypatch.setenv("HF_TOKEN", made.TOKEN)
    with made.fake_hub(str(tmp_path_factory.mktemp("hub"))):
        yield


class OccluBoost:
    """Takes what boxmot's documentation says that its trackers take."""

    def __init__(self, reid_model: Any, with_reid: bool) -> None:
        self.reid_model = reid_model

    def update(self, detections: np.ndarray, image: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        assert detections.shape[1] == 6
        own = self.reid_model.get_features(detections[:, :4], image)
        np.testing.assert_array_equal(embeddings, own)
        return np.empty((0, 8))


class DeepSort:
    """Takes what the documentation of deep_sort_realtime says that it takes."""

    def __init__(self, max_age: int, embedder: None) -> None:
        self.max_age = max_age

    def update_tracks(self, found: list[Any], embeds: np.ndarray, frame: np.ndarray) -> list[Any]:
        assert all(len(box) == 4 and isinstance(score, float) for box, score, _ in found)
        assert len(embeds) == len(found)
        assert np.allclose(np.linalg.norm(embeds, axis=1), 1, atol=1e-4)
        return []


@pytest.fixture
def other_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for trackers that the tests do not install."""
    for package, module, kind in (
        ("boxmot", "trackers", OccluBoost),
        ("deep_sort_realtime", "deepsort_tracker", DeepSort),
    ):
        made = ModuleType(f"{package}.{module}")
        setattr(made, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
        monkeypatch.setitem(sys.modules, f"{package}.{module}", made)
