"""Who the generated pedestrians are: the build, skin, hair, clothes and bag of each identity."""

from dataclasses import dataclass
from random import Random

from kronreid.data.generated.colours import Colour

UPPER_COLOURS: tuple[Colour, ...] = (
    (36, 36, 42), (226, 226, 222), (128, 130, 134), (42, 52, 98), (58, 102, 178), (138, 180, 218),
    (188, 46, 50), (112, 36, 50), (58, 126, 72), (112, 112, 66), (48, 136, 140), (218, 192, 72),
    (216, 122, 52), (226, 146, 166), (116, 74, 146), (202, 184, 152), (112, 82, 60),
)  # fmt: skip
LOWER_COLOURS: tuple[Colour, ...] = (
    (34, 34, 40), (44, 56, 92), (98, 126, 166), (124, 126, 130), (184, 168, 132),
    (222, 222, 216), (98, 72, 54), (88, 94, 62), (150, 48, 56), (58, 110, 120),
)  # fmt: skip
BAG_COLOURS = (*UPPER_COLOURS[:1], *UPPER_COLOURS[3:12], (150, 104, 66))
SKINS: tuple[Colour, ...] = ((236, 200, 172), (222, 178, 144), (192, 142, 106), (142, 98, 70), (92, 62, 46))
HAIRS: tuple[Colour, ...] = ((26, 22, 22), (58, 40, 30), (104, 70, 44), (186, 148, 88), (152, 150, 148))
SHOES: tuple[Colour, ...] = ((30, 30, 34), (232, 232, 230), (120, 84, 58), (176, 52, 54), (70, 96, 160))

UPPER_PATTERNS = (
    "plain", "hoops", "pinstripes", "checks", "logo", "two_tone", "hem", "raglan", "open", "dots",
    "chest_band",
)  # fmt: skip
LOWER_KINDS = ("trousers", "trousers", "trousers", "shorts", "shorts", "skirt", "long_skirt", "leggings")
LOWER_PATTERNS = ("plain", "plain", "side_stripe", "checks", "cuffs", "faded")
HAIR_STYLES = ("short", "short", "long", "bob", "ponytail", "bun", "bald", "curly")
BAGS = ("none", "none", "backpack", "backpack", "messenger", "handbag", "tote")
HATS = ("none", "none", "none", "none", "cap", "beanie", "sun_hat")

_LOOKS = 8  # how many outfits the identities of one seed are variations of


@dataclass(frozen=True)
class Person:
    """What stays the same about one identity. Lengths are factors around 1."""

    stature: float
    build: float
    shoulders: float
    hips: float
    skin: Colour
    hair_style: str
    hair: Colour
    hat: str
    hat_colour: Colour
    upper: Colour
    upper_second: Colour
    upper_pattern: str
    pattern_count: int
    sleeve: float  # share of the arm that is covered, 0 … 1
    upper_length: float  # how far below the hips the upper garment reaches
    lower: Colour
    lower_second: Colour
    lower_kind: str
    lower_pattern: str
    shoes: Colour
    bag: str
    bag_colour: Colour
    side: int  # 1 carries on the left, -1 on the right


def _vary(rng: Random, colour: Colour, spread: int) -> Colour:
    """A similar colour: lighter or darker, and a little off in hue."""
    level = rng.randint(-spread, spread)
    red, green, blue = (min(250, max(18, v + level + rng.randint(-spread, spread) // 2)) for v in colour)
    return red, green, blue


def _contrast(rng: Random, colour: Colour) -> Colour:
    """A second colour that differs from the first clearly enough for a small, dark picture."""

    def distance(other: Colour) -> int:
        return sum(abs(a - b) for a, b in zip(colour, other))

    neutral = UPPER_COLOURS[:4] * 2  # most patterns are of black, white, grey or navy
    return rng.choice([other for other in (*neutral, *UPPER_COLOURS) if distance(other) > 190])


def make_person(identity_seed: int, seed: int) -> Person:
    """The person behind an identity; the two numbers decide everything.

    Every person wears a variation of one of a few outfits. So many people share the colours of their clothes,
    and differ in pattern, cut, bag, hat, hair or shoes.
    """
    rng = Random(f"{seed}/person/{identity_seed}")
    look = Random(f"{seed}/look/{rng.randrange(_LOOKS)}")
    look_upper, look_lower = look.choice(UPPER_COLOURS), look.choice(LOWER_COLOURS)
    upper = _vary(rng, look_upper if rng.random() < 0.6 else rng.choice(UPPER_COLOURS), 14)
    lower = _vary(rng, look_lower if rng.random() < 0.45 else rng.choice(LOWER_COLOURS), 12)
    lower_kind, hair_style, hat = rng.choice(LOWER_KINDS), rng.choice(HAIR_STYLES), rng.choice(HATS)
    if hat != "none" and hair_style in ("curly", "bun"):
        hair_style = "short"  # the hat covers it
    if lower_kind in ("skirt", "long_skirt") and rng.random() < 0.4:
        lower = upper  # a dress
    return Person(
        stature=rng.uniform(0.88, 1.08),
        build=rng.uniform(0.88, 1.28),
        shoulders=rng.uniform(0.92, 1.08),
        hips=rng.uniform(0.92, 1.12),
        skin=rng.choice(SKINS),
        hair_style=hair_style,
        hair=rng.choice(HAIRS),
        hat=hat,
        hat_colour=_vary(rng, rng.choice(UPPER_COLOURS), 10),
        upper=upper,
        upper_second=_vary(rng, _contrast(rng, upper), 10),
        upper_pattern=rng.choice(UPPER_PATTERNS),
        pattern_count=rng.choice((3, 4, 6)),
        sleeve=rng.choice((0.12, 0.42, 0.42, 0.95)),
        upper_length=rng.choice((0.0, 0.03, 0.06, 0.17)),
        lower=lower,
        lower_second=_vary(rng, _contrast(rng, lower), 10),
        lower_kind=lower_kind,
        lower_pattern=rng.choice(LOWER_PATTERNS),
        shoes=rng.choice(SHOES),
        bag=rng.choice(BAGS),
        bag_colour=_vary(rng, rng.choice(BAG_COLOURS), 10),
        side=rng.choice((-1, 1)),
    )
