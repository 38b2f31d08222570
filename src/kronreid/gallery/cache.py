"""A bounded folder of matchers' maps, so that no picture is encoded twice.

There is one file per picture and matcher, in safetensors' format; nothing is ever unpickled. Files are
written whole or not at all, a damaged file counts as absent, and any number of processes may share the
folder.
"""

import contextlib
import hashlib
import itertools
import json
import logging
import os
import threading
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from kronreid.errors import InputError
from kronreid.models.inference import EncodedMaps, Matcher
from kronreid.ops.blocks import PreparedMaps

log = logging.getLogger(__name__)

#: A full folder is cleared down to this share of its size, so that clearing is rare.
_AFTER_CLEARING = 0.9
#: A process measures the folder again after it has written this share, since others may have written too.
_BETWEEN_LOOKS = 0.05
_ABANDONED_SECONDS = 3600.0
_READERS = 4
_TENSORS = [field.name for field in fields(PreparedMaps) if field.name != "size"]


class MapCache:
    """Maps of pictures in a folder. When it is full, the least recently used ones are removed.

    Unit vectors are stored in half precision and read back as float32. Each number changes by at most 5e-4 of
    itself, which changes a logit in its third or fourth digit.

    Args:
        folder: The folder; it is made if it is missing.
        max_bytes: The most bytes it may hold.

    Raises:
        InputError: The folder cannot be made or written to.

    Example:
        >>> cache = MapCache("maps", max_bytes=10 * 10**9)
        >>> gallery = kronreid.Gallery("people", embedder, matcher, cache=cache)
    """

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int = 10 * 10**9) -> None:
        self.folder = Path(folder)
        if max_bytes < 1:
            raise InputError(f"cache {folder}", f"its size must be positive, not {max_bytes}")
        self.max_bytes = max_bytes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cache {folder}", f"cannot be made ({error.strerror or error})") from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise InputError(f"cache {folder}", "cannot be written to; choose another folder")
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._spare = 0  # what may be written before the folder is measured again
        self._broken = False

    def check(self, matcher: Any) -> None:
        """
        Raises:
            InputError: This matcher's maps cannot be kept.
        """
        if not isinstance(matcher, Matcher) or not matcher.fingerprint:
            raise InputError(
                "cache",
                "only keeps maps of kronreid's own matchers, loaded from a folder; use no cache",
            )

    def read(self, matcher: Matcher, identifier: str) -> EncodedMaps | None:
        """What `write` stored for this picture and matcher, in half precision (see `whole`). None if there is
        nothing, or if it is damaged."""
        path = self._path(matcher, identifier)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        try:
            maps = _unpacked(content)
        except (SafetensorError, KeyError, ValueError):
            log.warning("%s: this file of the cache is damaged, and is removed", path)
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # others are now less recently used
        return maps

    def read_all(self, matcher: Matcher, identifiers: Sequence[str]) -> dict[str, EncodedMaps]:
        """What is stored of these pictures, by identifier."""
        with ThreadPoolExecutor(_READERS) as pool:
            found = pool.map(partial(self.read, matcher), identifiers)
        return {id: maps for id, maps in zip(identifiers, found) if maps is not None}

    def keep(self, matcher: Matcher, identifier: str, maps: EncodedMaps) -> EncodedMaps:
        """Store the maps of one picture, and return them as they are stored."""
        kept = halved(maps)
        self.write(matcher, identifier, kept)
        return kept

    def together(self, matcher: Matcher, parts: Sequence[EncodedMaps]) -> EncodedMaps:
        """Several stored pictures as the matcher takes them."""
        return whole(parts, matcher.device)

    def write(self, matcher: Matcher, identifier: str, maps: EncodedMaps) -> None:
        """Store the maps (`halved`) of one picture. After a failure nothing more is stored."""
        path = self._path(matcher, identifier)
        content = _packed(maps)
        with self._lock:
            if self._broken:
                return
            try:
                if len(content) > self._spare:
                    self._spare = self._clear(len(content))
                if len(content) > self._spare:
                    return
                path.parent.mkdir(exist_ok=True)
                new = path.with_name(f".{os.getpid()}-{next(self._numbers)}.new")
                new.write_bytes(content)
                new.replace(path)
                self._spare -= len(content)
            except OSError as error:
                self._broken = True
                log.warning(
                    "cache %s: nothing more is written to it (%s)", self.folder, error.strerror or error
                )

    def size(self) -> int:
        """Bytes that the folder holds."""
        return sum(size for _, size, _ in self._files())

    def _path(self, matcher: Matcher, identifier: str) -> Path:
        what = f"{matcher.fingerprint} {matcher.matching} {matcher.autocast} {identifier}"
        name = hashlib.sha256(what.encode()).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.safetensors"

    def _files(self) -> list[tuple[float, int, Path]]:
        """Of each file, when it was last used, its size and its path."""
        files = []
        for folder in self.folder.iterdir():
            if not folder.is_dir() or len(folder.name) != 2:
                continue
            for file in os.scandir(folder):
                try:
                    known = file.stat()
                except FileNotFoundError:  # another process has removed it
                    continue
                if file.name.endswith(".safetensors"):
                    files.append((known.st_mtime, known.st_size, Path(file.path)))
                elif file.name.endswith(".new") and time.time() - known.st_mtime > _ABANDONED_SECONDS:
                    Path(file.path).unlink(missing_ok=True)
        return files

    def _clear(self, wanted: int) -> int:
        """Remove the least recently used files until `wanted` bytes fit; returns how many may be written."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        if total + wanted > self.max_bytes:
            for _, size, path in files:
                if total + wanted <= _AFTER_CLEARING * self.max_bytes:
                    break
                path.unlink(missing_ok=True)
                total -= size
        return min(self.max_bytes - total, max(wanted, int(_BETWEEN_LOOKS * self.max_bytes)))


def halved(maps: EncodedMaps) -> EncodedMaps:
    """The maps with unit vectors in half precision, on the CPU."""

    def half(scale: PreparedMaps) -> PreparedMaps:
        unit = scale.unit.half() if scale.unit.dtype == torch.float32 else scale.unit
        return replace(scale.to("cpu"), unit=unit.cpu())

    return EncodedMaps(maps.pooled.cpu(), [half(scale) for scale in maps.scales])


def whole(parts: Sequence[EncodedMaps], device: torch.device) -> EncodedMaps:
    """Several `halved` maps, one after the other, in the form that a matcher takes."""
    scales = [PreparedMaps.cat(list(scale)).to(device) for scale in zip(*(part.scales for part in parts))]
    scales = [
        replace(scale, unit=scale.unit.float()) if scale.unit.dtype == torch.float16 else scale
        for scale in scales
    ]
    return EncodedMaps(torch.cat([part.pooled for part in parts]).to(device), scales)


def _packed(maps: EncodedMaps) -> bytes:
    """A file's content: the tensors by name, the maps' sizes, and a checksum of the tensors."""
    tensors = {"pooled": maps.pooled.contiguous()}
    sizes = []
    for number, scale in enumerate(maps.scales):
        tensors |= {f"{number}.{name}": getattr(scale, name).contiguous() for name in _TENSORS}
        sizes.append("x".join(map(str, scale.size)) if scale.size else "")
    return save(
        tensors, {"sizes": " ".join(sizes), "scales": str(len(sizes)), "checksum": _checksum(tensors)}
    )


def _unpacked(content: bytes) -> EncodedMaps:
    tensors = load(content)
    told = _metadata(content)
    if told["checksum"] != _checksum(tensors):
        raise ValueError("the checksum is wrong")
    sizes = told["sizes"].split(" ")
    scales = []
    for number in range(int(told["scales"])):
        height, _, width = sizes[number].partition("x")
        size = (int(height), int(width)) if width else None
        scales.append(PreparedMaps(**{name: tensors[f"{number}.{name}"] for name in _TENSORS}, size=size))
    return EncodedMaps(tensors["pooled"], scales)


def _metadata(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]


def _checksum(tensors: dict[str, Tensor]) -> str:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"
