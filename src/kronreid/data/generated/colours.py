"""Colours of the generated pedestrians: 8-bit sRGB, and what drawing does with them."""

Colour = tuple[int, int, int]


def shade(colour: Colour, factor: float) -> Colour:
    """The colour darkened (factor below 1) or lightened (above 1)."""
    red, green, blue = (min(255, int(v * factor)) for v in colour)
    return red, green, blue


def mix(a: Colour, b: Colour) -> Colour:
    """The colour halfway between two."""
    return (a[0] + b[0]) // 2, (a[1] + b[1]) // 2, (a[2] + b[2]) // 2
