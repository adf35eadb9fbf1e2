"""Rain and snow of three levels on clean photographs.

Streaks and flakes are drawn as **optical depth**: the depths of all particles over a pixel add up, and
1 - exp(-depth) is the union 1 - prod(1 - a) of their opacities a. So a heavier level is the lighter one plus
more particles, by one addition.
The numbers of a scene are drawn by NumPy from its own seed; its pixels are computed by torch, on the device
of the photograph.
"""

from manas.data.weather.capture import Capture
from manas.data.weather.climates import LEVELS, WEATHERS
from manas.data.weather.generator import Weather, WeatherBatch, degrade, degrade_batch
from manas.data.weather.scene import depth_ramp, scale_of

__all__ = [
    "LEVELS",
    "WEATHERS",
    "Capture",
    "Weather",
    "WeatherBatch",
    "degrade",
    "degrade_batch",
    "depth_ramp",
    "scale_of",
]
