"""A bounded folder of matcher's maps, so that a picture that was compared once is not encoded again.

One file per picture and matcher, in safetensors' format: nothing is ever unpickled. A file is there whole or
not at all, one that is damaged counts as absent, and any number of processes may share the folder.
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
from dataclasses import fields, replace
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

#: Cleared down to this share once full, so that files are not looked through for every new one.
_AFTER_CLEARING = 0.9
#: A process looks at the folder again after it has written this share: others may have written too.
_BETWEEN_LOOKS = 0.05
_ABANDONED_SECONDS = 3600.0
_TENSORS = [field.name for field in fields(PreparedMaps) if field.name != "size"]


class MapCache:
    """Maps of pictures in a folder, the least recently used making way for new ones.

    Unit vectors are kept in half precision; what comes back is float32 again and differs from what went in
    by at most 5e-4 of each number, which moves a logit in its third or fourth digit.

    Args:
        folder: Where; made if it is not there.
        max_bytes: The most it may hold.

    Raises:
        InputError: The folder cannot be made or written to.

    Example:
        >>> cache = MapCache("maps", max_bytes=10 * 10**9)
        >>> gallery = kronreid.Gallery("people.db", embedder, matcher, cache=cache)
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
        self._spare = 0  # what may be written before the folder is looked at again
        self._broken = False

    def check(self, matcher: Any) -> None:
        """
        Raises:
            InputError: The matcher is none whose maps can be kept.
        """
        if not isinstance(matcher, Matcher) or not matcher.fingerprint:
            raise InputError(
                "cache",
                "only maps of kronreid's own matchers, loaded from a folder, can be kept; leave it out",
            )

    def read(self, matcher: Matcher, identifier: str) -> EncodedMaps | None:
        """What `write` kept for this picture and matcher, still in half precision (see `whole`); None where
        there is nothing or it is damaged."""
        path = self._path(matcher, identifier)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        try:
            maps = _unpacked(content)
        except (SafetensorError, KeyError, ValueError):
            log.warning("%s: a damaged file of the cache is left out and removed", path)
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # it was used: others go first
        return maps

    def write(self, matcher: Matcher, identifier: str, maps: EncodedMaps) -> None:
        """Keep the maps (`halved`) of one picture. A disk that is full ends the keeping, not the search."""
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
                log.warning("cache %s: no longer written to (%s)", self.folder, error.strerror or error)

    def size(self) -> int:
        """Bytes that it holds."""
        return sum(size for _, size, _ in self._files())

    def _path(self, matcher: Matcher, identifier: str) -> Path:
        what = f"{matcher.fingerprint} {matcher.matching} {matcher.autocast} {identifier}"
        name = hashlib.sha256(what.encode()).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.safetensors"

    def _files(self) -> list[tuple[float, int, Path]]:
        """When each file was used last, its size and its path."""
        files = []
        for folder in self.folder.iterdir():
            if not folder.is_dir() or len(folder.name) != 2:
                continue
            for file in os.scandir(folder):
                try:
                    known = file.stat()
                except FileNotFoundError:  # another process was quicker
                    continue
                if file.name.endswith(".safetensors"):
                    files.append((known.st_mtime, known.st_size, Path(file.path)))
                elif file.name.endswith(".new") and time.time() - known.st_mtime > _ABANDONED_SECONDS:
                    Path(file.path).unlink(missing_ok=True)
        return files

    def _clear(self, wanted: int) -> int:
        """Remove the least recently used until `wanted` bytes fit; how many may be written then."""
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
    """The same with unit vectors in half precision, on the CPU."""

    def half(scale: PreparedMaps) -> PreparedMaps:
        unit = scale.unit.half() if scale.unit.dtype == torch.float32 else scale.unit
        return replace(scale.to("cpu"), unit=unit.cpu())

    return EncodedMaps(maps.pooled.cpu(), [half(scale) for scale in maps.scales])


def whole(parts: Sequence[EncodedMaps], device: torch.device) -> EncodedMaps:
    """Several that are `halved`, one after the other, as a matcher takes them."""
    scales = [PreparedMaps.cat(list(scale)).to(device) for scale in zip(*(part.scales for part in parts))]
    scales = [
        replace(scale, unit=scale.unit.float()) if scale.unit.dtype == torch.float16 else scale
        for scale in scales
    ]
    return EncodedMaps(torch.cat([part.pooled for part in parts]).to(device), scales)


def _packed(maps: EncodedMaps) -> bytes:
    """One file's content: the tensors by name, the maps' sizes, and a checksum of them all."""
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
        raise ValueError("not what was written")
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
