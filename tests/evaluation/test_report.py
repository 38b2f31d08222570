import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from kronreid.errors import InputError
from kronreid.evaluation import evaluate, evaluate_dataset, table, write_report

from .fakes import FakeEmbedder, FakeMatcher, fake_dataset


@pytest.fixture
def dataset(tmp_path):
    made = fake_dataset(queries=8, gallery=40, people=5, root=tmp_path)
    rng = np.random.default_rng(0)
    for picture in (*made.query, *made.gallery):
        Image.fromarray(rng.integers(0, 255, (40, 20, 3), dtype=np.uint8)).save(picture.path)
    return dataclasses.replace(made, name="<made>")


@pytest.mark.parametrize("matcher", [None, FakeMatcher()])
def test_page_is_self_contained_and_marks_right_and_wrong(dataset, tmp_path, matcher):
    result = evaluate_dataset(FakeEmbedder(), dataset, matcher=matcher, rerank_top=5, hardest=3)
    write_report(result, dataset, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    right = sum(int(one.right.sum()) for one in result.hardest)
    wrong = sum(int((~one.right).sum()) for one in result.hardest)
    assert page.count('<figure class="right">') == page.count("<figcaption>✓") == right
    assert page.count('<figure class="wrong">') == page.count("<figcaption>✗") == wrong
    assert page.count("<figcaption>query") == 3
    assert f"<td>{100 * result.mAP:.2f}</td>" in page
    assert "&lt;made&gt;" in page
    assert "<made>" not in page


def test_picture(dataset, tmp_path):
    result = evaluate_dataset(FakeEmbedder(), dataset, hardest=2)
    write_report(result, dataset, tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as image:
        assert image.width > 1000
        colours = {colour for _, colour in image.convert("RGB").getcolors(image.width * image.height)}
    assert (0xC6, 0x28, 0x28) in colours  # a wrong candidate's frame


def test_vectors_alone_make_a_report(dataset, tmp_path):
    vectors = np.eye(12, dtype=np.float32)
    result = evaluate(vectors, range(12), [0] * 12, vectors, range(12), [1] * 12, protocol="msmt17")
    write_report(result, dataset, tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_bad_places(dataset, tmp_path):
    result = evaluate_dataset(FakeEmbedder(), dataset)
    with pytest.raises(InputError, match=r"report\.pdf: "):
        write_report(result, dataset, tmp_path / "report.pdf")
    with pytest.raises(InputError, match=r"report\.html: cannot be written"):
        write_report(result, dataset, tmp_path / "missing" / "report.html")


def test_table(dataset):
    result = evaluate_dataset(FakeEmbedder(), dataset)
    text = table({"one": result, "another": dataclasses.replace(result, queries_without_match=2)})
    lines = text.splitlines()
    assert lines[0].split()[:3] == ["rank-1", "rank-5", "rank-10"]
    assert lines[1].split()[:2] == ["one", f"{100 * result.rank1:.2f}"]
    assert len({len(line) for line in lines[:3]}) == 1
    assert lines[3] == "another: 2 of 8 queries have no match in the gallery; the rates are over the others"
    assert table(result).splitlines()[1].startswith("market1501")
