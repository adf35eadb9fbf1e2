"""Drawing of an attention module: channel groups, nodes, and the gate on every edge between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from manas.reporting.drawing.sheet import FAINT, GREY, INK, SIGN, WIRE, Point, Sheet, shortened
from search_spaces.multi_scale_attentive.drawing.labels import Edge

PILL, PILL_HEIGHT = 29.6, 7.6
PITCH = 18.4  # from one channel group to the next; the edge between their nodes stands halfway
PAD = 3.2
_FIRST, _AXIS = PAD + 7.2, PAD + 7.2 + PILL + 5.0  # left end of the first pills, the axis of the nodes
_RIGHT = 5.0  # from that axis to the right end of the pills on it
GROUP, NODE = 3.2, 3.4  # size of the signs of a channel group and a node


class Gate(NamedTuple):
    """How a gate is shown: its name, what it is, and the colour of its family."""

    name: str
    meaning: str
    colour: str


_CONVOLUTION, _SPATIAL, _CHANNEL, _BOTH, _OTHER = "#dce9f5", "#dff0e2", "#fdeecb", "#ece2f2", "#eeeeee"

GATES = {
    "none": Gate("none", "no connection", "#ffffff"),
    "skip_connect": Gate("skip", "identity", "#ffffff"),
    "sep_conv_3x3": Gate("sep 3x3", "separable convolution", _CONVOLUTION),
    "dil_conv_3x3": Gate("dil 3x3", "dilated convolution", _CONVOLUTION),
    "sep_conv_3x3_spatial": Gate("sep spatial", "spatial attention", _SPATIAL),
    "dil_conv_3x3_spatial": Gate("dil spatial", "spatial, dilated", _SPATIAL),
    "channel_attention": Gate("CA", "channel attention", _CHANNEL),
    "channel_attention_v2": Gate("CA v2", "channel, mean + max", _CHANNEL),
    "cbam": Gate("CBAM", "channel, then spatial", _BOTH),
}


def gate_named(name: str) -> Gate:
    """How a gate is shown; one that is not of MANAS by its name, which is also its meaning where it is cut."""
    short = shortened(name, SIGN)
    return GATES.get(name) or Gate(short, name if short != name else "", _OTHER)


def width_of(groups: int) -> float:
    """Width of the box of a module with so many channel groups."""
    beyond = max(groups - 2, 0) * (PILL + 3.5)
    return _AXIS + _RIGHT + beyond + PAD if groups > 1 else _AXIS + NODE / 2 + PAD


def height_of(groups: int) -> float:
    """Height of that box."""
    return (groups - 1) * PITCH + PILL_HEIGHT + 2 * PAD


def draw_attention(sheet: Sheet, left: float, middle: float, width: float, edges: Sequence[Edge]) -> None:
    """The box of a module with its graph, which stands in the middle of it."""
    groups = max(edge.node for edge in edges) + 1
    height = height_of(groups)
    sheet.box(left, middle - height / 2, width, height, rounding=2)
    left += (width - width_of(groups)) / 2
    heights = [middle + (k - (groups - 1) / 2) * PITCH for k in range(groups)]
    for edge in edges:
        _draw_edge(sheet, left, heights, edge)
    for y in heights:
        draw_group(sheet, left + PAD, y)
        draw_node(sheet, left + _AXIS, y)
    for edge in edges:  # after all lines, so that none of them crosses a name
        x, y = _place(left, heights, edge)
        draw_pill(sheet, x, y, gate_named(edge.gate))


def draw_group(sheet: Sheet, left: float, y: float) -> None:
    """The input of a channel group."""
    sheet.box(left, y - GROUP / 2, GROUP, GROUP, fill=WIRE, rounding=0.3)


def draw_node(sheet: Sheet, x: float, y: float) -> None:
    """A node: the sum of what reaches it."""
    sheet.dot(x, y, NODE / 2, fill="#ffffff", edge=WIRE)


def draw_pill(sheet: Sheet, left: float, y: float, gate: Gate) -> None:
    """The name of a gate in its box; pale and dashed where nothing passes."""
    nothing = gate.name == "none"
    sheet.box(
        left,
        y - PILL_HEIGHT / 2,
        PILL,
        PILL_HEIGHT,
        fill=gate.colour,
        edge=FAINT if nothing else WIRE,
        dashed=nothing,
    )
    sheet.text(left + PILL / 2, y, gate.name, colour=GREY if nothing else INK)


def _place(left: float, heights: Sequence[float], edge: Edge) -> Point:
    """The left end of the pill on an edge, and its height.

    Edges from inputs stand in rows, those between neighbouring nodes on the axis of the nodes, and those that
    pass over nodes to the right of it, the further the more they pass over.
    """
    if edge.source is None:
        return left + _FIRST, heights[edge.node]
    over = edge.node - edge.source - 1
    y = (heights[edge.node] + heights[edge.source]) / 2
    return left + _AXIS + _RIGHT + over * (PILL + 3.5) - PILL, y


def _draw_edge(sheet: Sheet, left: float, heights: Sequence[float], edge: Edge) -> None:
    dashed, colour = edge.gate == "none", FAINT if edge.gate == "none" else WIRE
    axis, (x, y) = left + _AXIS, _place(left, heights, edge)
    end = heights[edge.node]
    if edge.source is None:
        points = [(left + PAD + GROUP, end), (axis - NODE / 2, end)]
    elif edge.node - edge.source == 1:
        points = [(axis, heights[edge.source]), (axis, end - NODE / 2)]
    elif edge.node - edge.source == 2:
        points = [(axis, heights[edge.source]), (x + PILL / 2, y), (axis + NODE / 2, end - 0.3 * NODE)]
    else:  # bent around the pills on the edges that pass over fewer nodes
        gate, points = (x + PILL / 2, y), [(axis + 6, end), (axis + NODE / 2, end)]
        sheet.bow((axis, heights[edge.source]), gate, colour=colour, dashed=dashed)
        sheet.bow(points[0], gate, colour=colour, dashed=dashed)
    sheet.line(points, colour=colour, dashed=dashed, arrow=True)
