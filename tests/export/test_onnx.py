"""Exported files: the model's vectors, nothing to know beside the file, and nothing written that is wrong."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from kronreid import __version__
from kronreid.cli import main
from kronreid.errors import InputError
from kronreid.export import ExportReport, export, formats
from kronreid.export.comparing import Comparison, agreement_of
from kronreid.export.onnx import write_onnx
from kronreid.gallery import Gallery
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.loading import load, wrap
from kronreid.models.places import PlaceMatching, PlacesOptions


@pytest.fixture(scope="module")
def exported(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    """HOReID, from its unfolded form."""
    file = tmp_path_factory.mktemp("exported") / "horeid.onnx"
    tool = load(home / "horeid", device="cpu", folded=False)
    return file, export(tool, file)


@pytest.fixture
def file(exported: tuple[Path, ExportReport], tmp_path: Path) -> Path:
    """A copy to play with."""
    copy = tmp_path / "horeid.onnx"
    copy.write_bytes(exported[0].read_bytes())
    return copy


def test_vectors_and_fingerprint_are_the_models(
    exported: tuple[Path, ExportReport], embedder: Embedder, paths: list[Path]
) -> None:
    file, report = exported
    assert report.files == (file,)
    assert report.pictures == 32
    assert 0 < report.difference < 1e-4
    assert report.agreement > 0.99
    assert list(file.parent.iterdir()) == [file], "nothing is left beside it"
    loaded = load(file)
    assert loaded.fingerprint == embedder.fingerprint
    assert loaded.dimension == embedder.dimension == 32
    expected = embedder.embed(paths)
    for batch_size in (1, 3, 64):
        np.testing.assert_allclose(loaded.embed(paths, batch_size=batch_size), expected, atol=1e-5)


def test_a_mirrored_embedders_graph_has_both_passes(
    embedder: Embedder, random_places: Callable[..., PlaceMatching], paths: list[Path], tmp_path: Path
) -> None:
    mirrored = wrap(embedder.model, replace(embedder.input, mirror=True), "c0ffee")
    assert isinstance(mirrored, Embedder)
    mirrored.places = random_places(PlacesOptions(numbers=8), [(16, 4, 2)])
    (file,) = write_onnx(mirrored, tmp_path / "mirrored.onnx")
    expected = mirrored.embed(paths)
    assert np.abs(expected - embedder.embed(paths)).max() > 0.01
    for batch_size in (1, 3, 64):
        np.testing.assert_allclose(load(file).embed(paths, batch_size=batch_size), expected, atol=1e-5)
    logits = [one.needed_matcher().logits(*[one.describe(paths)] * 2) for one in (load(file), mirrored)]
    torch.testing.assert_close(*logits, atol=1e-3, rtol=1e-3)


def test_anyone_can_run_it(
    exported: tuple[Path, ExportReport], embedder: Embedder, paths: list[Path]
) -> None:
    """With onnxruntime alone, from what the metadata say."""
    session = onnxruntime.InferenceSession(str(exported[0]), providers=["CPUExecutionProvider"])
    card = session.get_modelmeta().custom_metadata_map
    assert card["input"].startswith("uint8 RGB (N, 3, 64, 32)")
    assert (card["kind"], card["model"], card["height"], card["width"]) == ("embedder", "horeid", "64", "32")
    assert json.loads(card["mean"]) == [0.4, 0.5, 0.6]
    assert json.loads(card["std"]) == [0.3, 0.2, 0.1]
    assert card["fingerprint"] == embedder.fingerprint
    assert card["kronreid_version"] == __version__
    assert "research only" in card["licence"]
    assert "never proof" in card["responsible_use"]
    (one,) = session.get_inputs()
    assert (one.name, one.type, one.shape[1:]) == ("images", "tensor(uint8)", [3, 64, 32])
    images = np.stack([embedder.pixels(path).numpy() for path in paths])
    vectors = session.run([card["output"]], {"images": images})[0]
    assert vectors.shape == (7, int(card["dimension"]))
    np.testing.assert_allclose(vectors, embedder.embed(paths), atol=1e-5)


def test_what_is_in_the_file(exported: tuple[Path, ExportReport]) -> None:
    model = onnx.load(exported[0])
    onnx.checker.check_model(model, full_check=True)
    operators = {node.op_type for node in model.graph.node}
    assert "Conv" in operators
    assert not operators & {"DFT", "STFT", "BatchNormalization", "If", "Loop"}
    assert {node.domain for node in model.graph.node} == {""}, "standard operators only"
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]
    assert b".py" not in exported[0].read_bytes(), "no trace of source files"


def test_a_changed_file_has_a_fingerprint_of_its_own(file: Path, embedder: Embedder) -> None:
    model = onnx.load(file)
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    onnx.save(model, file)
    changed = load(file)
    assert changed.fingerprint != embedder.fingerprint
    for entry in model.metadata_props:
        if entry.key == "fingerprint":
            entry.value = "0" * 64
    onnx.save(model, file)
    assert load(file).fingerprint not in ("0" * 64, embedder.fingerprint, changed.fingerprint)


def test_it_wants_no_sidecar(file: Path) -> None:
    Path(f"{file}.json").write_text('{"colours": "bgr"}')
    with pytest.raises(InputError, match=r"which needs no options; remove horeid.onnx.json"):
        load(file)


def test_it_is_not_exported_again(file: Path) -> None:
    with pytest.raises(InputError, match="is an exported file already"):
        export(load(file), file.with_name("again.onnx"))


def test_a_matcher_becomes_two_files(matcher: Matcher, paths: list[Path], tmp_path: Path) -> None:
    report = export(matcher, tmp_path / "kpm.onnx")
    assert report.files == (tmp_path / "kpm.onnx", tmp_path / "kpm.scorer.onnx")
    assert sorted(tmp_path.iterdir()) == sorted(report.files)
    assert report.difference < 1e-3
    assert report.agreement > 0.98
    encoder = load(report.files[0])
    assert isinstance(encoder, Embedder)
    np.testing.assert_allclose(encoder.embed(paths), matcher.embed(paths), atol=1e-5)
    assert encoder.fingerprint == matcher.fingerprint
    with pytest.raises(InputError, match="scores pairs of maps and takes no pictures"):
        load(report.files[1])
    # As a program without kronreid does it: encode once, compare any queries with any candidates.
    sessions = [
        onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]) for file in report.files
    ]
    images = np.stack([matcher.pixels(path).numpy() for path in paths])
    names = [output.name for output in sessions[0].get_outputs()]
    assert names[:3] == ["pooled", "maps_1", "weight_1"]
    encoded = dict(zip(names, sessions[0].run(names, {"images": images})))
    inputs = {}
    for one in sessions[1].get_inputs():
        side, _, name = one.name.partition("_")
        inputs[one.name] = encoded[name][:2] if side == "query" else encoded[name]
    logits = sessions[1].run(["logits"], inputs)[0]
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), matcher.score(paths[:2], paths), atol=1e-3)


@pytest.mark.parametrize(
    ("vectors", "places", "what"),
    [
        (float("nan"), 0.0, "outputs"),
        (0.0, float("nan"), "places' scores"),
        (0.0, 0.02, "places' scores"),
    ],
)
def test_wrong_numbers_are_not_written(
    exported: tuple[Path, ExportReport],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    vectors: float,
    places: float,
    what: str,
) -> None:
    file = tmp_path / "pooled.onnx"
    file.write_text("as it was")
    # Which graph it is does not matter, and each takes seconds to write.
    monkeypatch.setattr(formats, "write_onnx", lambda tool, file: [Path(shutil.copy(exported[0], file))])
    monkeypatch.setattr(formats, "compare", lambda *_: Comparison(32, vectors, places, 1.0, 1.0))
    with pytest.raises(
        InputError, match=rf"pooled.onnx: was not written: its {what} differ from the model's by"
    ):
        export(load(home / "pooled", device="cpu"), file)
    assert file.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [file]


def test_agreement() -> None:
    scores = np.array([[9, 3, 2, 1], [1, 9, 2, 3], [1, 2, 9, 3], [3, 2, 1, 9]], float)
    swapped = scores.copy()
    swapped[0, 1:3] = 2, 3
    assert agreement_of(scores, scores) == 1
    assert agreement_of(scores, swapped) == pytest.approx(1 - 2 / 12)


def test_command(
    home: Path, pedestrians: Path, embedder: Embedder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Export, then index with the one form and search with the other."""
    file, uri = tmp_path / "pooled.onnx", str(tmp_path / "people.gallery")
    assert main(["export", str(home / "pooled"), "--format", "onnx", "--out", str(file)]) == 0
    said = capsys.readouterr().out
    assert str(file) in said
    assert "largest difference" in said
    pictures, query = pedestrians / "bounding_box_test", str(next((pedestrians / "query").iterdir()))
    assert main(["index", str(pictures), "--model", str(home / "pooled"), "--gallery", uri]) == 0
    assert main(["index", str(pictures), "--model", str(file), "--gallery", uri]) == 0
    assert "0 added" in capsys.readouterr().out
    hits = []
    for model in (home / "pooled", file):
        out = tmp_path / "hits.json"
        assert main(["search", query, "--gallery", uri, "--model", str(model), "--json", str(out)]) == 0
        hits.append(
            [(hit["path"], round(hit["similarity"], 3)) for hit in json.loads(out.read_text())["hits"]]
        )
    assert hits[0] == hits[1]
    with pytest.raises(InputError, match="were made by model"):
        Gallery(uri, embedder)


def test_foreign_networks_in_the_commands(
    file: Path, pedestrians: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without its metadata an export is anyone's network that takes bytes."""
    model = onnx.load(file)
    del model.metadata_props[:]
    onnx.save(model, file)
    uri, out = str(tmp_path / "people.gallery"), tmp_path / "out.json"
    pictures = sorted((pedestrians / "bounding_box_test").iterdir())
    assert main(["index", *map(str, pictures), "--model", str(file), "--gallery", uri]) == 0
    assert f"{len(pictures)} added" in capsys.readouterr().out
    assert main(["search", str(pictures[0]), "--gallery", uri, "--json", str(out)]) == 0
    first = json.loads(out.read_text())["hits"][0]
    assert first["path"] == str(pictures[0])
    assert first["similarity"] == pytest.approx(1, abs=1e-5)
    assert main(["evaluate", str(file), "--data", str(pedestrians), "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["queries"] == 6
    assert 0 < figures["mAP"] <= 1
    Path(f"{file}.json").write_text('{"colours": "bgr"}')
    capsys.readouterr()
    assert main(["search", str(pictures[0]), "--gallery", uri]) == 2
    assert "were made by model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["MODEL", "--out", "out.bin"], "--out out.bin: the name must end in .onnx"),
        (["MODEL", "--out", "no/out.onnx"], "there is no folder no"),
        (["MODEL", "--out", "out.onnx", "--format", "torchscript"], "--format"),
        (["MODEL"], "--out"),
        (["nowhere", "--out", "out.onnx"], "MODEL nowhere: no such model folder"),
    ],
)
def test_bad_input(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [str(home / "pooled") if one == "MODEL" else one for one in arguments]
    assert main(["export", *arguments]) == 2
    said = capsys.readouterr().err.splitlines()
    assert words in said[-1]
    assert list(tmp_path.iterdir()) == []
