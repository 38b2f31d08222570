"""Detecting with a network: large frames are cut into overlapping tiles, whose detections are merged.

A network scales its picture down to its input. In a frame that is much larger than the input people become
too small to be found, so the frame is read in tiles of two sizes: large ones for people who are near, small
ones for those far away.
"""

import math
import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kronreid.cameras.detectors import Detections
from kronreid.cameras.detectors.boxes import best
from kronreid.errors import InputError
from kronreid.options import Share

#: Frames that are at most so many times as large as the network's input are read as a whole.
MUCH_LARGER = 1.5
#: The least share of a tile that its neighbour covers as well.
OVERLAP = 0.25
#: A box that ends within so many pixels of a tile's border is cut off there; another tile has all of it.
BORDER = 3
#: The most tiles of one frame.
MOST_TILES = 400


class Network(Protocol):
    """A network that finds people in one picture.

    Attributes:
        size: Height and width of its input.
    """

    size: tuple[int, int]

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (N, 4), left, top, right and bottom in pixels of `image`, and scores (N,) from 0 to 1.

        Args:
            image: (H, W, 3) uint8 RGB.
        """


@dataclass(frozen=True)
class NetworkOptions:
    """Options of all detectors that are networks.

    Attributes:
        threshold: The lowest score of a detection.
        tiles: ``auto`` reads frames that are much larger than the network's input in tiles of two sizes (as
            high as the frame, and half as high), and as a whole for very large people. ``none`` reads whole
            frames. Numbers like ``1.5,3`` are the sizes of tiles as multiples of the input; the number 0 is
            the whole frame.
    """

    threshold: Share = 0.5
    tiles: str = "auto"

    def __post_init__(self) -> None:
        if self.tiles not in ("auto", "none") and not re.fullmatch(r"[0-9.]+(,[0-9.]+)*", self.tiles):
            raise InputError("", f"tiles {self.tiles!r}: auto, none or numbers like 1.5,3 expected")
        for part in self.tiles.split(",") if self.tiles[0] in "0123456789." else ():
            if part.count(".") > 1 or not part.strip(".") or 0 < float(part) < 0.1:
                raise InputError("", f"tiles {self.tiles!r}: {part} must be 0, or a number from 0.1")


class NetworkDetector:
    """A detector that is a network; see `Detector`.

    Args:
        network: The network.
        options: The options.
    """

    def __init__(self, network: Network, options: NetworkOptions) -> None:
        self.network, self.options = network, options

    def __call__(self, image: np.ndarray) -> Detections:
        """See `Detector`."""
        height, width = image.shape[:2]
        found_boxes, found_scores = [np.empty((0, 4))], [np.empty(0)]
        for left, top, right, bottom, least in self._places(height, width):
            boxes, scores = self.network.find(image[top:bottom, left:right])
            kept = (scores >= self.options.threshold) & ((boxes[:, 2:] - boxes[:, :2]).max(axis=1) >= least)
            boxes, scores = boxes[kept] + (left, top, left, top), scores[kept]
            whole = np.ones(len(boxes), bool)
            for side, (border, end) in enumerate(((left, 0), (top, 0), (right, width), (bottom, height))):
                if border != end:
                    inwards = boxes[:, side] - border if side < 2 else border - boxes[:, side]
                    whole &= inwards >= BORDER
            found_boxes.append(boxes[whole])
            found_scores.append(scores[whole])
        boxes, scores = np.concatenate(found_boxes), np.concatenate(found_scores)
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
        sound = (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
        boxes, scores = boxes[sound], scores[sound]
        kept = best(boxes, scores)
        boxes = boxes[kept]
        boxes[:, 2:] -= boxes[:, :2]
        return Detections(boxes.astype(np.float32), scores[kept].astype(np.float32))

    def _places(self, height: int, width: int) -> list[tuple[int, int, int, int, float]]:
        """The tiles of a frame: left, top, right, bottom, and the least width or height of a person there."""
        places = []
        for down, across, least in _sizes(height, width, self.network.size, self.options.tiles):
            down, across = min(down, height), min(across, width)
            places += [
                (left, top, left + across, top + down, least)
                for top in _starts(height, down)
                for left in _starts(width, across)
            ]
        once = {place[:4]: place for place in reversed(places)}
        if len(once) > MOST_TILES:
            raise InputError(
                f"tiles {self.options.tiles}", f"a frame of {width} × {height} pixels has {len(once):,} tiles"
            )
        return list(once.values())


def _sizes(height: int, width: int, network: tuple[int, int], tiles: str) -> list[tuple[int, int, float]]:
    """Heights and widths of the tiles of a frame, and the least width or height of a person in them.

    Tiles as high as the frame cut those people in two who are wider than the tiles overlap, so the whole
    frame is searched for them.
    """
    across, down = width / network[1], height / network[0]
    if tiles == "none" or (tiles == "auto" and max(across, down) <= MUCH_LARGER):
        return [(height, width, 0)]
    if tiles == "auto":
        large = max(min(across, down), 1.0)
        factors = [large, max(large / 2, 1.0)]
        sizes = [(round(factor * network[0]), round(factor * network[1]), 0.0) for factor in factors]
        return [*sizes, (height, width, OVERLAP * min(sizes[0][:2]) - 2 * BORDER)]
    return [
        (max(round(factor * network[0]), 1), max(round(factor * network[1]), 1), 0)
        if factor
        else (height, width, 0)
        for factor in map(float, tiles.split(","))
    ]


def _starts(length: int, tile: int) -> list[int]:
    """Where the tiles along one side begin."""
    if tile >= length:
        return [0]
    count = 1 + math.ceil((length - tile) / (tile * (1 - OVERLAP)))
    return [round(number * (length - tile) / (count - 1)) for number in range(count)]
