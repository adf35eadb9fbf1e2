"""The before-and-after grid: its pictures are where they should be, in proportion, and readable."""

import numpy as np
import pytest
from skimage import data

from manas.data.images import read_image
from manas.errors import ManasError
from manas.reporting.pictures import HEADINGS, MARGIN, NARROWEST, Row, before_after


def plain(height, width, colour):
    return np.full((height, width, 3), colour, dtype=np.uint8)


RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def box(page, colour):
    """Top, left, height and width of what has exactly one colour."""
    rows, columns = np.nonzero((page == np.array(colour)).all(axis=-1))
    return rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1


@pytest.mark.parametrize(
    ("size", "width", "shown"),
    [
        ((300, 400), 200, (150, 200)),
        ((400, 301), 150, (199, 150)),
        ((30, 50), 320, (30, 50)),
        ((1, 900), 300, (1, 300)),
        ((90, 90), 45, (45, 45)),
    ],
)
def test_pictures_stand_side_by_side_in_proportion(size, width, shown, tmp_path):
    row = Row("light rain 30.1 dB", [plain(*size, colour) for colour in (RED, GREEN, BLUE)])
    path = before_after([row], tmp_path / "grids" / "grid.png", width=width)
    page = read_image(path)
    boxes = [box(page, colour) for colour in (RED, GREEN, BLUE)]
    assert [found[2:] for found in boxes] == [shown] * 3
    assert len({found[0] for found in boxes}) == 1
    column = max(NARROWEST, shown[1])
    assert [found[1] for found in boxes] == [MARGIN + place * (column + MARGIN) for place in range(3)]
    assert page.shape[1] == len(HEADINGS) * (column + MARGIN) + MARGIN


def test_the_margin_is_white_and_the_text_is_there(tmp_path):
    pictures = [plain(40, 150, colour) for colour in (RED, GREEN, BLUE)]
    bare = read_image(before_after([Row("", pictures)], tmp_path / "bare.png"))
    noted = read_image(
        before_after([Row("heavy rain", pictures, ("14 dB", "27 dB", ""))], tmp_path / "noted.png")
    )
    for page in (bare, noted):
        assert (page[[0, -1]] == 255).all()
        assert (page[:, [0, -1]] == 255).all()
    top, bottom = box(noted, RED)[0], box(noted, RED)[0] + 40
    headings = noted[: top - 25]
    assert (headings < 128).any()
    assert (noted[top - 25 : top] < 128).any()
    assert (bare[top - 25 : top] == 255).all()
    below = noted[bottom:]
    first, second, third = (MARGIN + place * (150 + MARGIN) for place in range(3))
    assert (below[:, first:second] < 200).any()
    assert (below[:, second:third] < 200).any()
    assert (below[:, third:] == 255).all()


@pytest.mark.parametrize("columns", [2, 5])
def test_there_are_as_many_columns_as_headings(columns, tmp_path):
    colours = [(200, 10 * place, 0) for place in range(columns)]
    row = Row("rain", [plain(40, 150, colour) for colour in colours], ["20 dB"] * columns)
    headings = [f"model {place}" for place in range(columns)]
    page = read_image(before_after([row], tmp_path / "grid.png", headings=headings))
    assert [box(page, colour)[1:] for colour in colours] == [
        (MARGIN + place * (150 + MARGIN), 40, 150) for place in range(columns)
    ]
    for top, bottom in ((0, 40), (page.shape[0] - 40, page.shape[0])):  # headings, notes
        for place in range(columns):
            left = MARGIN + place * (150 + MARGIN)
            assert (page[top:bottom, left : left + 150] < 200).any()


def test_a_title_stands_above_all(tmp_path):
    row = Row("rain", [plain(40, 150, colour) for colour in (RED, GREEN, BLUE)])
    bare = read_image(before_after([row], tmp_path / "bare.png"))
    titled = read_image(before_after([row], tmp_path / "titled.png", title="8 images, protocol derain"))
    more = len(titled) - len(bare)
    assert more > 20
    np.testing.assert_array_equal(titled[more:], bare)
    assert (titled[:more] < 128).any()


def test_long_captions_end_within_the_page(tmp_path):
    pictures = [plain(20, 130, colour) for colour in (RED, GREEN, BLUE)]
    notes = ("a note that does not fit below so small a picture",) * 3
    page = read_image(
        before_after([Row("far too long " * 50, pictures, notes)], tmp_path / "grid.png", title="very " * 60)
    )
    assert (page[:, -MARGIN:] == 255).all()
    gap = MARGIN + 130
    assert (page[box(page, RED)[0] :, gap : gap + MARGIN] == 255).all()


def test_rows_of_different_sizes_share_a_page(tmp_path):
    photographs = [data.chelsea(), data.coffee()[::3, ::3]]
    rows = [Row(f"row {index}", [photo] * 3) for index, photo in enumerate(photographs)]
    page = read_image(before_after(rows, tmp_path / "grid.png", width=100))
    assert page.shape[1] == 3 * NARROWEST + 4 * MARGIN
    assert page.shape[0] > sum(round(photo.shape[0] * 100 / photo.shape[1]) for photo in photographs)


@pytest.mark.parametrize(
    "pictures",
    [
        (plain(4, 5, RED), plain(4, 5, RED), plain(4, 6, RED)),
        (plain(4, 5, RED), plain(4, 5, RED) / 255, plain(4, 5, RED)),
        (np.zeros((4, 5), np.uint8),) * 3,
        (np.zeros((0, 5, 3), np.uint8),) * 3,
        (plain(4, 5, RED),) * 2,
        (),
    ],
)
def test_pictures_that_do_not_match_are_refused(pictures, tmp_path):
    with pytest.raises(ManasError, match=r"the row 'snow' needs 3 uint8 pictures of one shape"):
        before_after([Row("snow", pictures)], tmp_path / "grid.png")


def test_nothing_to_show_is_refused(tmp_path):
    with pytest.raises(ManasError, match="at least one row"):
        before_after([], tmp_path / "grid.png")
    row = Row("rain", [plain(4, 5, RED)] * 3)
    with pytest.raises(ManasError, match="at least 1 pixel, got 0"):
        before_after([row], tmp_path / "grid.png", width=0)
    with pytest.raises(ManasError, match="suffix"):
        before_after([row], tmp_path / "grid.xyz")
    assert not list(tmp_path.iterdir())
