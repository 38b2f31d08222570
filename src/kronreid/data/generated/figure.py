"""Draws a generated pedestrian: a walking skeleton with clothes, head and bag.

The skeleton's joints are points in the body coordinates of `stage`. Parts are drawn from the farthest to the
nearest.
"""

import math
from collections.abc import Callable
from functools import partial

from PIL import ImageDraw

from kronreid.data.generated.colours import Colour, mix, shade
from kronreid.data.generated.person import Person
from kronreid.data.generated.stage import Joint, Point, Pose, Shell, Stage


def _paint_upper(shell: Shell, person: Person) -> None:
    """Paint the upper garment and its pattern on the trunk."""
    first, second, count = person.upper, person.upper_second, person.pattern_count
    shell.band(0.0, 1.0, first)
    pattern = person.upper_pattern
    if pattern != "two_tone":
        shell.patch(0.0, 0.6, 0.0, 0.1, person.skin)
    if pattern == "hoops":
        for i in range(count):
            shell.band((i + 0.5) / count, (i + 1.0) / count, second)
    elif pattern == "pinstripes":
        for i in range(2 * count):
            shell.patch((i + 0.5) * math.pi / count, 0.3 * math.pi / (2 * count), 0.0, 1.0, second)
    elif pattern == "checks":
        for i in range(2 * count):
            shell.patch(
                (i + 0.5) * math.pi / count, 0.5 * math.pi / (2 * count), 0.0, 1.0, mix(first, second)
            )
        for i in range(count):
            shell.band((i + 0.5) / count, (i + 0.9) / count, second)
    elif pattern == "logo":
        shell.patch(0.0, 0.5, 0.2, 0.2 + 0.05 * count, second)
        shell.patch(math.pi, 0.75, 0.12, 0.24, second)
    elif pattern == "two_tone":
        shell.band(0.0, 0.4, second)
    elif pattern == "hem":
        shell.band(0.72, 1.0, second)
    elif pattern == "chest_band":
        shell.band(0.3, 0.5, second)
    elif pattern == "open":
        shell.patch(0.0, 0.42, 0.0, 1.0, second)
    elif pattern == "dots":
        for i in range(2 * count):
            for row in range(count + 1):
                angle = (i + 0.5 * (row % 2)) * math.pi / count
                t = (row + 0.3) / (count + 1.2)
                shell.patch(angle, 0.5 / count, t, t + 0.5 / (count + 1), second)


def _leg(person: Person, pose: Pose, side: int) -> list[Joint]:
    """Hip, knee and ankle of one leg; `side` is 1 for the left leg and -1 for the right."""
    phase = pose.phase + (0.0 if side > 0 else math.pi)
    thigh = pose.stride * math.sin(phase)
    shin = thigh - 0.06 - 1.5 * pose.stride * max(0.0, math.cos(phase))
    left = side * 0.052 * person.hips * (0.7 + 0.3 * person.build)
    hip = (left, 0.0, 0.50 * person.stature)
    knee = (left, 0.235 * person.stature * math.sin(thigh), hip[2] - 0.235 * person.stature * math.cos(thigh))
    length = 0.225 * person.stature
    return [hip, knee, (left * 0.9, knee[1] + length * math.sin(shin), knee[2] - length * math.cos(shin))]


def _draw_leg(stage: Stage, person: Person, joints: list[Joint]) -> None:
    hip, knee, ankle = (stage.at(*joint) for joint in joints)
    thick = 0.7 + 0.3 * person.build
    thigh, calf, foot = 0.056 * thick, 0.04 * thick, 0.026 * thick
    toe = stage.at(joints[2][0], joints[2][1] + 0.085, joints[2][2] - 0.012)
    stage.limb(ankle, toe, 0.031, 0.024, person.shoes)
    skin, cloth, second, kind = person.skin, person.lower, person.lower_second, person.lower_kind
    if kind in ("trousers", "leggings"):
        loose = 1.0 if kind == "leggings" else 1.22
        stage.limb(hip, knee, thigh * 1.05, calf * loose, cloth)
        stage.limb(knee, ankle, calf * loose, foot * loose * 1.1, cloth)
        if person.lower_pattern == "cuffs":
            stage.limb(_between(knee, ankle, 0.55), ankle, foot * loose * 1.2, foot * loose * 1.15, second)
        elif person.lower_pattern == "faded":
            stage.limb(_between(hip, knee, 0.3), knee, thigh * 0.5, calf * 0.6, shade(cloth, 1.2))
    else:
        stage.limb(hip, knee, thigh * 0.85, calf, skin)
        stage.limb(knee, ankle, calf, foot, skin)
        if kind == "shorts":
            hem = _between(hip, knee, 0.85)
            stage.limb(hip, hem, thigh * 1.08, calf * 1.4, cloth, ends=1)
            if person.lower_pattern == "cuffs":
                stage.limb(_between(hip, knee, 0.68), hem, calf * 1.4, calf * 1.4, second, ends=1)
    if kind in ("trousers", "shorts") and person.lower_pattern == "checks":
        for share in (0.15, 0.4, 0.65):
            spot = _between(hip, knee, share)
            stage.limb(spot, _between(hip, knee, share + 0.12), thigh, thigh * 0.95, second, 0)
    outer = joints[0][0] * stage.cos  # the outer seam shows when the leg is not hidden behind the body
    if kind in ("trousers", "shorts") and person.lower_pattern == "side_stripe":
        shift = math.copysign(0.6 * thigh * abs(stage.cos) * stage.scale, outer)
        end = knee if kind == "shorts" else ankle
        for a, b in ((hip, knee), (knee, end)):
            stage.limb((a[0] + shift, a[1]), (b[0] + shift * 0.7, b[1]), 0.012, 0.011, second)


def _between(a: Point, b: Point, share: float) -> Point:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def _arm(person: Person, pose: Pose, side: int) -> list[Joint]:
    """Shoulder, elbow and wrist of one arm; `side` is 1 for the left arm and -1 for the right."""
    stature = person.stature
    swing = -0.9 * pose.stride * math.sin(pose.phase + (0.0 if side > 0 else math.pi))
    bend = 0.25 + 0.5 * pose.stride
    if pose.lift and side == -person.side:
        swing, bend = 0.5, 2.2 * pose.lift
    spread = 0.03 + 0.02 * person.build
    left = side * (0.118 * person.shoulders * (0.55 + 0.45 * person.build) - 0.014)
    shoulder = (left, 0.02, 0.778 * stature)
    upper, fore = 0.165 * stature, 0.15 * stature
    elbow = (left + side * spread, upper * math.sin(swing), shoulder[2] - upper * math.cos(swing))
    turn = swing + bend
    return [shoulder, elbow, (elbow[0], elbow[1] + fore * math.sin(turn), elbow[2] - fore * math.cos(turn))]


def _draw_arm(stage: Stage, person: Person, joints: list[Joint]) -> None:
    shoulder, elbow, wrist = (stage.at(*joint) for joint in joints)
    thick = 0.7 + 0.3 * person.build
    top, middle, end = 0.037 * thick, 0.031 * thick, 0.022 * thick
    skin = person.skin
    stage.limb(shoulder, elbow, top * 0.85, middle * 0.85, skin)
    stage.limb(elbow, wrist, middle * 0.85, end, skin)
    stage.ellipse(_between(elbow, wrist, 1.12), 0.023, 0.025, skin)
    cloth = person.upper
    if person.upper_pattern in ("raglan", "two_tone"):
        cloth = person.upper_second
    first = min(1.0, person.sleeve * 2)
    cuff = _between(shoulder, elbow, first)
    stage.limb(
        shoulder, cuff, top * 1.05, top + (middle - top) * first + 0.004, cloth, ends=2 if first == 1.0 else 1
    )
    if person.sleeve > 0.5:
        stage.limb(elbow, _between(elbow, wrist, person.sleeve * 2 - 1), middle * 1.1, end * 1.2, cloth)
    if person.upper_pattern in ("hoops", "checks") and person.sleeve > 0.3:
        for share in (0.1, 0.4, 0.7)[: 3 if person.sleeve > 0.5 else 2]:
            spot = _between(shoulder, elbow, share)
            stage.limb(
                spot, _between(shoulder, elbow, share + 0.16), top, middle * 1.1, person.upper_second, 0
            )


def _draw_head(stage: Stage, person: Person, forward: float) -> None:
    """Draw neck, hair, face and hat; `forward` is how far the head leans forward."""
    up = 0.905 * person.stature + 0.012
    sin, cos = stage.sin, stage.cos
    half = 0.047 + 0.007 * abs(sin)
    x, y = stage.at(0.0, forward, up)
    unit = stage.scale
    stage.limb(
        stage.at(0.0, forward * 0.8, 0.80 * person.stature), (x, y + 0.03 * unit), 0.032, 0.028, person.skin
    )
    style, hair = person.hair_style, person.hair
    if style in ("long", "bob"):
        length = 0.15 if style == "long" else 0.075
        if cos > 0.3:  # beside the neck, which stays visible
            for lock in (-1.0, 1.0):
                spot = (x + (lock * half * 0.9 - 0.03 * sin) * unit, y + length * 0.5 * unit)
                stage.ellipse(spot, half * 0.42, length * 0.5 + 0.02, hair)
        else:
            back = (x - 0.03 * sin * unit, y + length * 0.5 * unit)
            stage.ellipse(back, half * (1.2 + 0.35 * min(0.0, 0.6 - abs(cos))), length * 0.5 + 0.045, hair)
    stage.ellipse((x, y), half, 0.064, person.skin if style == "bald" else hair)
    if style == "curly":
        stage.ellipse((x - 0.01 * sin * unit, y - 0.02 * unit), half * 1.45, 0.064, hair)
    if style == "bald" or cos > -0.45:
        turned = half * min(1.0, 0.62 + 0.3 * max(0.0, cos))
        face = (x + (half - turned) * 1.5 * sin * unit, y + 0.014 * unit)
        stage.ellipse(face, turned * 0.92, 0.051, person.skin)
        if cos > -0.2:
            for eye in (-0.45, 0.45):
                seen = stage.pose.heading + eye
                if math.cos(seen) > 0.1:
                    spot = (x + half * 0.8 * math.sin(seen) * unit, y + 0.006 * unit)
                    stage.ellipse(spot, 0.006, 0.005, shade(person.skin, 0.3))
            mouth = (x + half * 0.75 * sin * unit, y + 0.04 * unit)
            stage.ellipse(mouth, 0.012 * max(0.3, cos), 0.004, shade(person.skin, 0.6))
    if style == "ponytail":
        tail = (x - 0.07 * sin * unit, y + (0.055 - 0.02 * cos) * unit)
        if abs(sin) > 0.4 or cos < 0:
            stage.ellipse(tail, 0.022, 0.065, shade(hair, 1.3))
    elif style == "bun":
        stage.ellipse((x - 0.04 * sin * unit, y - 0.062 * unit), 0.03, 0.026, hair)
    _draw_hat(stage, person, x, y, half)


def _draw_hat(stage: Stage, person: Person, x: float, y: float, half: float) -> None:
    if person.hat == "none":
        return
    unit, colour = stage.scale, person.hat_colour
    crown = (x - half * 1.12 * unit, y - 0.078 * unit, x + half * 1.12 * unit, y + 0.036 * unit)
    if person.hat == "sun_hat":
        stage.ellipse((x, y - 0.022 * unit), half * 2.3, 0.022, shade(colour, 0.85))
    stage.draw.chord(crown, 180, 360, fill=colour)
    if person.hat == "beanie":
        stage.ellipse((x, y - 0.024 * unit), half * 1.1, 0.014, shade(colour, 0.75))
    elif person.hat == "cap":
        brim = (x + 0.055 * stage.sin * unit, y - (0.024 - 0.006 * stage.cos) * unit)
        if stage.cos > -0.6:
            stage.ellipse(brim, 0.036, 0.012, shade(colour, 0.7))


def _box(stage: Stage, centre: Joint, half: Joint, colour: Colour) -> None:
    """Draw a bag: an upright rounded box whose outer pocket has a darker shade."""
    wide = abs(half[0] * stage.cos) + abs(half[1] * stage.sin)
    x, y = stage.at(*centre)
    a, b = wide * stage.scale, half[2] * stage.scale
    stage.draw.rounded_rectangle((x - a, y - b, x + a, y + b), radius=0.5 * min(a, b), fill=colour)
    stage.draw.rounded_rectangle(
        (x - a * 0.7, y + b * 0.05, x + a * 0.7, y + b * 0.8),
        radius=0.3 * min(a, b),
        fill=shade(colour, 0.7),
    )


def _bag(stage: Stage, person: Person, wrist: Joint) -> tuple[float, Callable[[], None]]:
    """The bag: how near it is to the camera, and the function that draws it (without straps on the trunk)."""
    stature, side, colour = person.stature, person.side, person.bag_colour
    deep = 0.085 * (0.55 + 0.45 * person.build)
    if person.bag == "backpack":
        centre, half = (0.0, -deep - 0.05, 0.68 * stature), (0.095, 0.06, 0.125)
    elif person.bag == "messenger":
        centre, half = (side * (deep + 0.075), -0.02, 0.49 * stature), (0.035, 0.085, 0.065)
    elif person.bag == "handbag":
        centre, half = (wrist[0], wrist[1], wrist[2] - 0.11), (0.035, 0.075, 0.065)
    else:
        centre, half = (side * (deep + 0.085), -0.03, 0.60 * stature), (0.035, 0.08, 0.085)

    def draw() -> None:
        if person.bag == "handbag":
            stage.limb(stage.at(*wrist), stage.at(*centre), 0.008, 0.008, shade(colour, 0.7))
        elif person.bag == "tote":
            top = stage.at(side * 0.1, 0.0, 0.81 * stature)
            stage.limb(top, stage.at(*centre), 0.009, 0.009, shade(colour, 0.8))
        _box(stage, centre, half, colour)

    return stage.near(centre[0], centre[1]) * 1.05, draw


def _paint_straps(shell: Shell, person: Person) -> None:
    dark = shade(person.bag_colour, 0.8)
    if person.bag == "backpack":
        for angle in (-0.6, 0.6):
            shell.patch(angle, 0.13, 0.0, 0.5, dark)
    elif person.bag == "messenger":
        for face, lean in (
            (0.0, person.side),
            (math.pi, -person.side),
        ):  # far shoulder to hip, chest and back
            shell.strap(face - lean * 0.9, face + lean * 1.2, 0.16, dark)


def draw_person(draw: ImageDraw.ImageDraw, person: Person, pose: Pose, foot: Point, height: float) -> None:
    """Draw a person.

    Args:
        draw: draws on an RGB image. Its mode is "RGBA", so that shadows are translucent.
        person: who is drawn.
        pose: how the person stands or walks, and how the camera looks.
        foot: canvas pixel (x, y) of the ground under the body.
        height: height of the body in pixels, from the sole to the top of the head.
    """
    stage = Stage(draw, pose, foot, height / (0.97 * person.stature + 0.01))
    stature, wide = person.stature, 0.55 + 0.45 * person.build
    legs = {side: _leg(person, pose, side) for side in (1, -1)}
    arms = {side: _arm(person, pose, side) for side in (1, -1)}
    stage.drop = min(joints[2][2] for joints in legs.values()) - 0.03
    lean = 0.03 + 0.05 * pose.stride
    shoulder, chest = 0.118 * person.shoulders * wide, 0.112 * person.shoulders * wide
    waist, hip = 0.092 * wide * (0.4 + 0.6 * person.build), 0.1 * person.hips * wide
    end = 0.475 * stature - person.upper_length
    trunk = [
        (0.835 * stature, 0.05, 0.045, lean),
        (0.805 * stature, shoulder, 0.062 * wide, lean),
        (0.70 * stature, chest, 0.085 * wide, lean * 0.8),
        (0.60 * stature, waist, 0.08 * wide * person.build, lean * 0.4),
        (0.50 * stature, hip, 0.082 * wide, 0.0),
    ]
    shell = Shell(stage, [*trunk, (end, hip * (1.02 + person.upper_length), 0.085 * wide, 0.0)])

    def draw_trunk() -> None:
        _draw_lower(stage, person, pose, hip, wide)
        _paint_upper(shell, person)
        shell.shade()
        _paint_straps(shell, person)

    parts: list[tuple[float, Callable[[], None]]] = [
        (0.0, draw_trunk),
        (0.06 if stage.cos > -0.3 else 0.03, lambda: _draw_head(stage, person, lean)),
    ]
    for side in (1, -1):
        leg, arm = legs[side], arms[side]
        # Both legs come before the trunk, whose clothes hang over them.
        parts.append((stage.near(leg[0][0], leg[1][1]) - 1.0, partial(_draw_leg, stage, person, leg)))
        near = sum(stage.near(left, forward) for left, forward, _ in arm) / 3 + 0.02
        parts.append((near, partial(_draw_arm, stage, person, arm)))
    if person.bag != "none":
        parts.append(_bag(stage, person, arms[person.side][2]))
    for _, part in sorted(parts, key=lambda entry: entry[0]):
        part()


def _draw_lower(stage: Stage, person: Person, pose: Pose, hip: float, wide: float) -> None:
    """Draw the part of the lower garment that surrounds the trunk: the seat of trousers, or a whole skirt."""
    stature, kind = person.stature, person.lower_kind
    if kind not in ("skirt", "long_skirt"):
        rings = [
            (0.53 * stature, hip * 0.97, 0.08 * wide, 0.0),
            (0.44 * stature, hip * 0.92, 0.075 * wide, 0.0),
        ]
        Shell(stage, rings).band(0.0, 1.0, person.lower)
        return
    hem, flare = (0.30, 1.25) if kind == "skirt" else (0.12, 1.35)
    swing = 1.0 + 0.5 * pose.stride
    rings = [
        (0.56 * stature, hip * 0.95, 0.08 * wide, 0.0),
        (0.46 * stature, hip * 1.06, 0.09 * wide, 0.0),
        (hem * stature, hip * flare, 0.1 * wide * flare * swing, 0.0),
    ]
    skirt = Shell(stage, rings)
    skirt.band(0.0, 1.0, person.lower)
    if person.lower_pattern == "checks":
        for i in range(8):
            skirt.patch((i + 0.5) * math.pi / 4, 0.16, 0.0, 1.0, person.lower_second)
    elif person.lower_pattern == "cuffs":
        skirt.band(0.78, 1.0, person.lower_second)
    elif person.lower_pattern == "side_stripe":
        skirt.band(0.45, 0.6, person.lower_second)
    skirt.shade()
