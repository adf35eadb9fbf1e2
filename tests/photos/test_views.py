"""Views are files beside their picture, and are known as such."""

from manas.photos.views import is_view


def test_views_are_known_by_their_picture(tmp_path):
    others = ["a.jpg", "a.b.png", "compare.png", "b.jpg.compare.png", "a.jpg.compare.jpg", "a.jpg.c.png"]
    for name in (*others, "a.jpg.compare.png", "a.b.png.difference.png"):
        (tmp_path / name).touch()
    found = sorted(path.name for path in tmp_path.iterdir() if is_view(path))
    assert found == ["a.b.png.difference.png", "a.jpg.compare.png"]
