import os
import re

from PIL import Image

from kronreid.gallery import Gallery, search_page

from .conftest import paint


def test_a_page_shows_scores_and_maps_and_needs_nothing(tmp_path, embedder, matcher, crops):
    def figure(explanation):
        first, second = explanation
        side_by_side = Image.new("RGB", (first.width + second.width, first.height))
        side_by_side.paste(first)
        side_by_side.paste(second, (first.width, 0))
        return side_by_side

    query = crops / "0007_c1s1_000007_00.png"
    with Gallery(tmp_path / "people.db", embedder, matcher) as gallery:
        gallery.add(crops)
        result = gallery.search(query, top=6, rerank_top=4, matcher_weight=1)
        page = search_page(result, query, matcher, figure, maps=2)
        (crops / "0007_c2s1_000007_00.png").unlink()
        assert "picture not found" in search_page(result, query)
    assert "6 hits" in page
    assert page.count("same person</dt>") == 4
    assert page.count("<details>") == 2
    assert page.count('src="data:image/jpeg;base64,') == 1 + 6 + 2
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "<script" not in page


def test_names_and_attributes_cannot_become_markup(tmp_path, embedder):
    name = os.fsdecode(b"<b>\xff&.png")
    path = paint(tmp_path / "crops" / "a.png", 1).rename(tmp_path / "crops" / name)
    with Gallery(tmp_path / "people.db", embedder) as gallery:
        gallery.add(path, camera="<script>", attributes={"<i>": "</dl>"})
        result = gallery.search(path, group_by="<i>")
        page = search_page(result, path)
    page.encode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;" in page
    assert "&lt;/dl&gt;" in page
