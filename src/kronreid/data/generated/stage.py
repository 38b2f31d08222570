"""Projects the body of a generated pedestrian to the canvas, and draws limbs and tubes of cloth there.

Body coordinates are (left, forward, up). The body is about 1 high and its feet are at 0. The camera looks a
little downward. A limb is drawn between two points of the canvas. The clothes of the trunk are tubes around
the body. Everything on them (stripes, checks, a logo on the chest, straps) is placed by its angle around the
body, so a change of viewpoint shows and hides the same things as on a real person.
"""

import math
from dataclasses import dataclass

from PIL import ImageDraw

from kronreid.data.generated.colours import Colour, shade

Point = tuple[float, float]  # canvas pixels
Joint = tuple[float, float, float]  # left, forward, up

_QUARTER = math.pi / 2


@dataclass(frozen=True)
class Pose:
    """What changes from picture to picture. Angles are in radians.

    Attributes:
        heading: 0 walks toward the camera, π/2 to the right of the picture, π away.
        phase: phase of the step, 0 to 2π.
        stride: swing of the thigh; 0 stands still, 0.5 takes long steps.
        lift: 0: both arms swing; 1: one hand is at the head.
        pitch: how steeply the camera looks down, as the tangent.
        light: side from which the light falls; -1 is the left of the picture, 1 the right.
    """

    heading: float
    phase: float
    stride: float
    lift: float
    pitch: float
    light: int


class Stage:
    """Projects body coordinates to canvas pixels and draws there.

    Args:
        draw: draws on an RGB image, mode "RGBA".
        pose: how the person stands, and how the camera looks.
        foot: canvas pixel of the ground under the body.
        scale: pixels per unit of body coordinates.
    """

    def __init__(self, draw: ImageDraw.ImageDraw, pose: Pose, foot: Point, scale: float) -> None:
        self.draw = draw
        self.pose = pose
        self.scale = scale
        self.drop = 0.0  # height of the lower foot over the ground, once the legs are known
        self.foot_x, self.foot_y = foot
        self.sin, self.cos = math.sin(pose.heading), math.cos(pose.heading)

    def near(self, left: float, forward: float) -> float:
        """How near a point is to the camera, in body units; the middle of the body is at 0."""
        return forward * self.cos - left * self.sin

    def at(self, left: float, forward: float, up: float) -> Point:
        """Canvas pixel of a point of the body."""
        x = left * self.cos + forward * self.sin
        y = up - self.drop - self.pose.pitch * (forward * self.cos - left * self.sin)
        return self.foot_x + x * self.scale, self.foot_y - y * self.scale

    def polygon(self, points: list[Point], colour: Colour) -> None:
        self.draw.polygon(points, fill=colour)

    def ellipse(self, centre: Point, half_width: float, half_height: float, colour: Colour) -> None:
        """Draw an ellipse; its half axes are in body units."""
        x, y = centre
        a, b = half_width * self.scale, half_height * self.scale
        self.draw.ellipse((x - a, y - b, x + a, y + b), fill=colour)

    def limb(self, start: Point, end: Point, r0: float, r1: float, colour: Colour, ends: int = 2) -> None:
        """Draw a tapering limb whose side away from the light is in shadow.

        Args:
            start, end: canvas pixels.
            r0, r1: radii at start and end, in body units.
            colour: colour of the lit side.
            ends: how many ends are round: 2, 1 (the start only, as a sleeve's hem is straight) or 0.
        """
        r0, r1 = r0 * self.scale, r1 * self.scale
        (x0, y0), (x1, y1) = start, end
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        nx, ny = (y1 - y0) / length, (x0 - x1) / length
        if nx * self.pose.light > 0:  # the normal points away from the light
            nx, ny = -nx, -ny
        dark = shade(colour, 0.72)
        draw = self.draw
        if ends > 0:
            draw.ellipse((x0 - r0, y0 - r0, x0 + r0, y0 + r0), fill=colour)
        if ends > 1:
            draw.ellipse((x1 - r1, y1 - r1, x1 + r1, y1 + r1), fill=colour)
        a, b = (x0 + nx * r0, y0 + ny * r0), (x1 + nx * r1, y1 + ny * r1)
        c, d = (x1 - nx * r1, y1 - ny * r1), (x0 - nx * r0, y0 - ny * r0)
        draw.polygon((a, b, c, d), fill=colour)
        e, f = (x1 + nx * r1 * 0.3, y1 + ny * r1 * 0.3), (x0 + nx * r0 * 0.3, y0 + ny * r0 * 0.3)
        draw.polygon((a, b, e, f), fill=dark)


class Shell:
    """A garment's tube around the trunk.

    Args:
        stage: where the garment is drawn.
        rings: (up, half width, half depth, forward) of cross-sections, from top to bottom, in body units.
    """

    def __init__(self, stage: Stage, rings: list[tuple[float, float, float, float]]) -> None:
        self.stage = stage
        self.top, self.bottom = rings[0][0], rings[-1][0]
        self.shares = [(self.top - ring[0]) / (self.top - self.bottom) for ring in rings]
        self.rings = []
        for up, width, depth, forward in rings:
            x, y = stage.at(0.0, forward, up)
            half = math.hypot(width * stage.cos, depth * stage.sin) * stage.scale
            bulge = math.hypot(width * stage.sin, depth * stage.cos) * stage.pose.pitch * stage.scale
            self.rings.append((x, y, half, bulge))

    def point(self, seen: float, t: float) -> Point:
        """Canvas pixel at the angle `seen` from the line of sight, at the share `t` of the way down."""
        i = 1
        while i < len(self.shares) - 1 and self.shares[i] < t:
            i += 1
        w = (t - self.shares[i - 1]) / (self.shares[i] - self.shares[i - 1])
        x, y, half, bulge = (a + (b - a) * w for a, b in zip(self.rings[i - 1], self.rings[i]))
        return x + half * math.sin(seen), y + bulge * math.cos(seen)

    def _fill(self, seen0: float, seen1: float, t0: float, t1: float, colour: tuple[int, ...]) -> None:
        levels = [t0, *(t for t in self.shares if t0 < t < t1), t1]
        middle = (seen0 + seen1) / 2
        points = [self.point(seen0, t) for t in levels]
        points.append(self.point(middle, t1))
        points += [self.point(seen1, t) for t in reversed(levels)]
        points.append(self.point(middle, t0))
        self.stage.draw.polygon(points, fill=colour)

    def band(self, t0: float, t1: float, colour: Colour) -> None:
        """Paint a band all around between two heights; `t0` and `t1` are shares of the way down."""
        self._fill(-_QUARTER, _QUARTER, t0, t1, colour)

    def patch(self, angle: float, half_angle: float, t0: float, t1: float, colour: Colour) -> None:
        """Paint the visible part of a patch around `angle` (0: front of the body, π/2: its left side)."""
        seen = math.remainder(angle + self.stage.pose.heading, 2 * math.pi)
        seen0, seen1 = max(seen - half_angle, -_QUARTER), min(seen + half_angle, _QUARTER)
        if seen0 < seen1:
            self._fill(seen0, seen1, t0, t1, colour)

    def strap(self, angle0: float, angle1: float, half_angle: float, colour: Colour) -> None:
        """Paint a strap from top to bottom that winds from one angle to another."""
        steps = 9
        for step in range(steps):
            t0, t1 = step / steps, (step + 1) / steps
            angle = angle0 + (angle1 - angle0) * t0
            seen0 = math.remainder(angle + self.stage.pose.heading, 2 * math.pi)
            seen1 = seen0 + (angle1 - angle0) / steps
            if max(abs(seen0), abs(seen1)) + half_angle < _QUARTER:
                corners = ((seen0, -1, t0), (seen0, 1, t0), (seen1, 1, t1), (seen1, -1, t1))
                self.stage.polygon(
                    [self.point(seen + side * half_angle, t) for seen, side, t in corners], colour
                )

    def shade(self) -> None:
        """Paint the shadow on the side away from the light."""
        light = self.stage.pose.light
        for edge in (0.25, 0.75):
            seen = (-_QUARTER, -edge) if light > 0 else (edge, _QUARTER)
            self._fill(*seen, 0.0, 1.0, (0, 0, 0, 46))
