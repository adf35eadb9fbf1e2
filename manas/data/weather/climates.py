"""The climates: the numbers of the weather generator, for each kind of weather and each level.

The numbers were calibrated on photographs of 480 x 320. Their mean PSNR of the luma at the levels light, medium
and heavy is 31.4, 27.2 and 16.5 dB for falling rain, 30.1, 26.9 and 13.6 dB for crossing rain (as the inputs of
Rain12, Rain100L and Rain100H), 26.6, 23.2 and 19.1 dB for falling snow, and 28.1, 23.8 and 18.0 dB for a snow
storm, of fine flakes without number and large ones out of focus (as in three masks of Snow100K). Noise, for
denoising, is no weather but has three levels, too: white and Gaussian, of 15, 25 and 50 grey levels of 255.
"""

from dataclasses import dataclass

from manas.data.weather.rain import Streaks
from manas.data.weather.snow import Flakes

Range = tuple[float, float]


@dataclass(frozen=True)
class Level:
    """One level of a climate.

    Attributes:
        veil: strength of the veil.
        added: the particles that it adds to those of the lighter levels.
        noise: standard deviation of white Gaussian noise, where black is 0 and white is 1.
    """

    veil: float
    added: tuple[Streaks | Flakes, ...]
    noise: float = 0


@dataclass(frozen=True)
class Climate:
    """The levels of one kind of weather, and the ranges from which each scene draws.

    Attributes:
        levels: the levels by name.
        density: factor on the number of particles.
        brightness: factor on the opacity of the particles.
        colour: colour of the particles, sRGB.
        tint: largest departure of one channel from that colour.
        screening: 1 screens the particles' light over the picture, 0 adds it; with None, particles cover the
            picture behind them.
        airlight: brightness of the veil.
        slant: largest departure of the fall from the vertical, in degrees.
        nearest: relative depth of the lowest row; that of the highest row is 1.
    """

    levels: dict[str, Level]
    density: Range
    brightness: Range
    colour: Range
    tint: float
    screening: Range | None
    airlight: Range
    slant: float
    nearest: float

    @property
    def noisy(self) -> bool:
        """Whether a level has noise."""
        return any(level.noise for level in self.levels.values())


_TINY = Flakes(5000, (0.6, 1.3), (0.6, 0.97), 2)

CLIMATES: dict[str, dict[str, Climate]] = {
    "rain": {
        "falling": Climate(
            levels={
                "light": Level(0.0, (Streaks(6000, 16, 1.0, (0.1, 0.4)), Streaks(400, 30, 1.5, (0.2, 0.6)))),
                "medium": Level(0.07, (Streaks(4000, 22, 1.0, (0.1, 0.4)), Streaks(320, 36, 1.5, (0.2, 0.6)))),
                "heavy": Level(
                    0.4,
                    (
                        Streaks(12000, 28, 1.0, (0.12, 0.4)),
                        Streaks(5200, 44, 1.6, (0.2, 0.6)),
                        Streaks(250, 80, 3.2, (0.1, 0.35)),
                    ),
                ),
            },
            density=(0.75, 1.25),
            brightness=(0.75, 1.0),
            colour=(0.9, 1.0),
            tint=0.01,
            screening=(1.0, 1.0),
            airlight=(0.65, 0.92),
            slant=30,
            nearest=0.35,
        ),
        "crossing": Climate(
            levels={
                "light": Level(
                    0.0, (Streaks(3500, 22, 1.2, (0.05, 0.4), 3), Streaks(350, 34, 2.0, (0.1, 0.6), 3))
                ),
                "medium": Level(
                    0.0, (Streaks(1500, 26, 1.4, (0.05, 0.45), 3), Streaks(300, 40, 2.3, (0.1, 0.7), 3))
                ),
                "heavy": Level(
                    0.0,
                    (
                        Streaks(9000, 45, 1.3, (0.05, 0.5), 12),
                        Streaks(5500, 70, 1.9, (0.05, 0.55), 12),
                        Streaks(3500, 60, 2.3, (0.1, 0.7), 12),
                        Streaks(350, 110, 4.0, (0.1, 0.7), 12),
                    ),
                ),
            },
            density=(0.5, 1.5),
            brightness=(0.7, 1.0),
            colour=(0.9, 1.0),
            tint=0.01,
            screening=(0.0, 1.0),
            airlight=(0.65, 0.92),
            slant=25,
            nearest=0.35,
        ),
    },
    "snow": {
        "falling": Climate(
            levels={
                "light": Level(0.03, (_TINY, Flakes(600, (1.2, 2.5), (0.5, 0.95), 3))),
                "medium": Level(
                    0.07, (_TINY, Flakes(330, (1.4, 3.5), (0.5, 0.95), 4), Flakes(20, (6, 10), (0.15, 0.35), 2))
                ),
                "heavy": Level(
                    0.23,
                    (
                        _TINY,
                        Flakes(700, (1.6, 4), (0.5, 0.95), 4),
                        Flakes(60, (4, 9), (0.3, 0.8), 7),
                        Flakes(12, (8, 16), (0.1, 0.3), 3),
                    ),
                ),
            },
            density=(0.75, 1.25),
            brightness=(1.0, 1.0),
            colour=(0.88, 0.98),
            tint=0.015,
            screening=None,
            airlight=(0.72, 0.96),
            slant=30,
            nearest=0.4,
        ),
        "storm": Climate(
            levels={
                "light": Level(
                    0.0,
                    (
                        Flakes(2500, (0.8, 1.6), (0.5, 0.97), 3),
                        Flakes(450, (1.5, 3.8), (0.4, 0.97), 4),
                        Flakes(12, (4, 9), (0.2, 0.5), 1),
                    ),
                ),
                "medium": Level(
                    0.08,
                    (
                        Flakes(40000, (0.6, 1.0), (0.1, 0.45), 2),
                        Flakes(200, (1.5, 4.5), (0.5, 0.97), 4),
                        Flakes(150, (3, 11), (0.15, 0.5), 1),
                    ),
                ),
                "heavy": Level(
                    0.2,
                    (
                        Flakes(60000, (0.7, 1.4), (0.1, 0.6), 5),
                        Flakes(300, (1.2, 4.5), (0.5, 0.97), 5),
                        Flakes(30, (5, 14), (0.2, 0.7), 1),
                    ),
                ),
            },
            density=(0.5, 1.5),
            brightness=(0.85, 1.0),
            colour=(0.9, 1.0),
            tint=0.015,
            screening=None,
            airlight=(0.88, 1.0),
            slant=45,
            nearest=0.9,
        ),
    },
    "noise": {
        "white": Climate(
            levels={
                "light": Level(0.0, (), 15 / 255),
                "medium": Level(0.0, (), 25 / 255),
                "heavy": Level(0.0, (), 50 / 255),
            },
            density=(1.0, 1.0),
            brightness=(1.0, 1.0),
            colour=(1.0, 1.0),
            tint=0.0,
            screening=None,
            airlight=(1.0, 1.0),
            slant=0,
            nearest=1.0,
        ),
    },
}
WEATHERS = tuple(CLIMATES)
LEVELS = ("light", "medium", "heavy")
MIXED = "mixed"  # the family of a scene is drawn
