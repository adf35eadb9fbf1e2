"""The drawing of multi-scale towers: their cells with columns and attention, stitches, and a key."""

from __future__ import annotations

from manas.architecture.genotype import Genotype
from manas.reporting.drawing.contract import Drawing, Sign
from manas.reporting.drawing.sheet import SHADE, Sheet
from search_spaces.multi_scale_attentive.drawing.attention import gate_named
from search_spaces.multi_scale_attentive.drawing.column import COLOURS
from search_spaces.multi_scale_attentive.drawing.grid import grid_of
from search_spaces.multi_scale_attentive.drawing.key import draw_key
from search_spaces.multi_scale_attentive.drawing.labels import NetworkPlan, read_network
from search_spaces.multi_scale_attentive.drawing.tower import draw_network

AIR = 5.0  # between the towers and the key
_BANDS = {**COLOURS, "none": SHADE}  # in a drawing it is white, as the paper is


class TowerDrawing(Drawing):
    """Towers as in the papers: scales from top to bottom, cells from left to right."""

    def can_draw(self, genotype: Genotype) -> bool:
        return read_network(genotype) is not None

    def width(self, genotype: Genotype) -> float:
        return grid_of(_network(genotype)).width

    def draw(self, sheet: Sheet, genotype: Genotype, top: float) -> float:
        network = _network(genotype)
        bottom = draw_network(sheet, network, grid_of(network), top)
        return draw_key(sheet, network, bottom + AIR)

    def sign(self, candidate: str) -> Sign:
        gate = gate_named(candidate)
        return Sign(gate.name, _BANDS.get(candidate, gate.colour))


def _network(genotype: Genotype) -> NetworkPlan:
    network = read_network(genotype)
    assert network is not None, "a genotype that can_draw refuses is not drawn"
    return network
