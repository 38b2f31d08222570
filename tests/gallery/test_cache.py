"""The cache of maps: its bounds and its damages, and a search with a small matcher of its own."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.gallery import Gallery, MapCache
from kronreid.gallery.cache import halved, whole
from kronreid.models.backbone import BackboneOptions
from kronreid.models.inference import EncodedMaps, Matcher
from kronreid.models.kpm import KPM
from kronreid.ops.blocks import PreparedMaps

from .conftest import ColourMatcher, paint


@pytest.fixture(scope="module")
def kpm() -> Matcher:
    """An untrained matcher that does not say the same about every pair."""
    torch.manual_seed(0)
    model = KPM(BackboneOptions("mobilenetv2_050", "none", 2))
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.normal_(norm.weight, 1, 0.3)
    for parameter in model.classifier.parameters():
        torch.nn.init.normal_(parameter, 0, 0.05)
    return Matcher(model, InputOptions(64, 32), "f00d")


def maps_of(seed: int) -> EncodedMaps:
    """Maps of one picture as `halved` gives them, about 1 kB in a file."""
    rng = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=rng)

    def scale(places: int, size: tuple[int, int] | None) -> PreparedMaps:
        unit = random(1, places, 6).half()
        return PreparedMaps(unit, random(1, places), random(1, places), random(1, 6), size)

    return EncodedMaps(random(1, 5), [scale(8, (4, 2)), scale(0, None)])


def tensors_of(maps: EncodedMaps) -> list[torch.Tensor]:
    found = [maps.pooled]
    for scale in maps.scales:
        found += [scale.unit, scale.norms, scale.weight, scale.weighted_mean]
    return found


def same(a: EncodedMaps | None, b: EncodedMaps) -> bool:
    return (
        a is not None
        and [scale.size for scale in a.scales] == [scale.size for scale in b.scales]
        and all(torch.equal(x, y) for x, y in zip(tensors_of(a), tensors_of(b), strict=True))
    )


def files_of(cache: MapCache) -> list[Path]:
    return sorted(cache.folder.rglob("*.safetensors"))


def test_what_is_kept_comes_back_to_the_bit(tmp_path, kpm):
    cache = MapCache(tmp_path / "maps")
    for number in range(4):
        cache.write(kpm, str(number), maps_of(number))
    again = MapCache(tmp_path / "maps")
    for number in range(4):
        assert same(again.read(kpm, str(number)), maps_of(number))
    assert again.read(kpm, "4") is None
    assert again.size() == sum(file.stat().st_size for file in files_of(again)) > 0


def test_maps_of_another_matcher_or_precision_are_others(tmp_path, kpm):
    cache = MapCache(tmp_path / "maps")
    cache.write(kpm, "a", maps_of(0))
    for change in ({"fingerprint": "beef"}, {"matching": torch.bfloat16}, {"autocast": True}):
        other = Matcher(kpm.model, kpm.input, kpm.fingerprint)
        for name, value in change.items():
            setattr(other, name, value)
        assert cache.read(other, "a") is None


def test_it_stays_below_its_size_and_the_least_recently_used_goes_first(tmp_path, kpm):
    cache = MapCache(tmp_path / "maps")
    cache.write(kpm, "0", maps_of(0))
    one = cache.size()
    cache = MapCache(tmp_path / "maps", max_bytes=int(10.5 * one))
    for number in range(1, 60):
        cache.write(kpm, str(number), maps_of(number))
        # Files' times are too coarse to tell writes apart that follow each other at once.
        for age, file in enumerate(sorted(files_of(cache), key=lambda file: file.stat().st_mtime_ns)):
            os.utime(file, ns=(0, age * 10**9))
        assert cache.read(kpm, "0") is not None  # used all the time
        assert cache.size() <= 10.5 * one
    held = [number for number in range(60) if cache.read(kpm, str(number)) is not None]
    assert len(held) >= 8
    assert held == [0, *range(61 - len(held), 60)]


def test_what_is_larger_than_the_cache_is_not_kept(tmp_path, kpm):
    cache = MapCache(tmp_path / "maps", max_bytes=100)
    cache.write(kpm, "a", maps_of(0))
    assert cache.size() == 0
    assert cache.read(kpm, "a") is None


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "one bit", "another header"])
def test_a_damaged_file_counts_as_absent_and_is_written_anew(tmp_path, kpm, damage):
    cache = MapCache(tmp_path / "maps")
    cache.write(kpm, "a", maps_of(0))
    (file,) = files_of(cache)
    content = file.read_bytes()
    middle = len(content) * 3 // 4
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    header = int.from_bytes(content[:8], "little")
    renamed = content[:8] + content[8 : 8 + header].replace(b"norms", b"morms") + content[8 + header :]
    damaged = {"empty": b"", "cut": content[:middle], "text": b"hello", "one bit": flipped}
    file.write_bytes(damaged.get(damage, renamed))
    assert cache.read(kpm, "a") is None
    cache.write(kpm, "a", maps_of(0))
    assert same(cache.read(kpm, "a"), maps_of(0))


def test_a_disk_that_is_full_ends_the_keeping_and_not_the_search(tmp_path, kpm, monkeypatch, caplog):
    cache = MapCache(tmp_path / "maps")
    cache.write(kpm, "a", maps_of(0))

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with caplog.at_level(logging.WARNING):
        cache.write(kpm, "b", maps_of(1))
        cache.write(kpm, "c", maps_of(2))
    assert [record.message for record in caplog.records] == [
        f"cache {tmp_path / 'maps'}: nothing more is written to it (No space left on device)"
    ]
    assert same(cache.read(kpm, "a"), maps_of(0))


def test_impossible_caches_are_refused(tmp_path, embedder):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be made"):
        MapCache(tmp_path / "file" / "maps")
    with pytest.raises(InputError, match="positive"):
        MapCache(tmp_path / "maps", max_bytes=0)
    with pytest.raises(InputError, match="cache: only keeps maps"):
        Gallery(tmp_path / "people.gallery", embedder, ColourMatcher(), cache=MapCache(tmp_path / "maps"))


def test_half_precision_is_close(kpm, tmp_path):
    pictures = [paint(tmp_path / f"{number}.png", number) for number in range(6)]
    maps = kpm.encode(pictures)
    kept = halved(maps)
    back = whole([kept[:2], kept[2:]], kpm.device)
    assert all(scale.unit.dtype == torch.float32 for scale in back.scales)
    for x, y in zip(tensors_of(maps), tensors_of(back), strict=True):
        assert torch.allclose(x, y, atol=3e-4)
    assert np.allclose(kpm.score(maps, maps), kpm.score(maps, back), atol=2e-3)


def test_a_search_finds_the_same_with_and_without(tmp_path, embedder, kpm, crops):
    query = crops / "0007_c1s1_000007_00.png"
    with Gallery(tmp_path / "people.gallery", embedder, kpm) as gallery:
        gallery.add(crops)
        plain = gallery.search(query, top=20, matcher_weight=1)
    cache = MapCache(tmp_path / "maps")
    with Gallery(tmp_path / "people.gallery", embedder, kpm, cache=cache) as gallery:
        cold = gallery.search(query, top=20, rerank_top=12, matcher_weight=1)
        assert len(files_of(cache)) == 12
        for path in crops.iterdir():  # what is known is not even opened
            path.rename(path.with_suffix(".gone"))
        query = query.with_suffix(".gone")
        warm = gallery.search(query, top=20, rerank_top=12, matcher_weight=1)
        files_of(cache)[0].write_bytes(b"damaged")
        partly = gallery.search(query, top=20, rerank_top=12, matcher_weight=1)
    expected = {hit.id: hit.probability for hit in plain.hits}
    assert len({round(probability, 3) for probability in expected.values()}) > 2
    scored = [hit for hit in cold.hits if hit.probability is not None]
    assert len(scored) == 12
    for hit in scored:
        assert hit.probability == pytest.approx(expected[hit.id], abs=2e-3)
    assert [hit.id for hit in warm.hits] == [hit.id for hit in cold.hits]
    for a, b in zip(warm.hits, cold.hits, strict=True):
        assert a.probability == (None if b.probability is None else pytest.approx(b.probability, abs=1e-6))
    assert warm.unreadable == []
    assert len(partly.unreadable) == 1
    assert list(warm.seconds) == ["embed", "search", "cache", "decode", "match", "total"]
