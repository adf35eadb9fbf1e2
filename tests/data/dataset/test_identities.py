"""A picture is in one part, whatever its files: the scene of a file is known here from how it was made."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from manas.data.archives import StoredImage
from manas.data.checking import matching
from manas.data.checking.remembered import signatures
from manas.data.checking.signature import signature
from manas.data.dataset import identities as module
from manas.data.dataset.backgrounds import Backgrounds
from manas.data.dataset.config import DataConfig, SourceConfig
from manas.data.dataset.identities import identities
from manas.data.images import read_image, write_image
from manas.data.photographs import builtin_photographs
from manas.errors import ManasError

SEEDS = range(20)
SIDE = 224


@pytest.fixture(scope="module")
def pictures() -> dict[str, Image.Image]:
    """Eight scenes of photographs, of other pictures and not of patterns that repeat."""
    paths = {**builtin_photographs("training"), **builtin_photographs("held_out")}
    names = ("astronaut", "motorcycle_left", "rocket", "camera", "grass", "gravel", "chelsea", "coffee")
    whole = {name: Image.fromarray(read_image(paths[name])) for name in names}
    return {name: ImageOps.contain(picture, (SIDE, SIDE)) for name, picture in whole.items()}


def lossless(picture: Image.Image, path: Path) -> None:
    picture.save(path.with_suffix(".png"))


def same_pixels(picture: Image.Image, path: Path) -> None:
    picture.save(path.with_suffix(".png"), compress_level=1)


def as_jpeg(picture: Image.Image, path: Path) -> None:
    picture.save(path.with_suffix(".jpg"), quality=60)


def smaller(picture: Image.Image, path: Path) -> None:
    picture.resize((picture.width // 2, picture.height // 2)).save(path.with_suffix(".png"))


def mirrored(picture: Image.Image, path: Path) -> None:
    ImageOps.mirror(picture).save(path.with_suffix(".webp"), quality=80)


def cropped(picture: Image.Image, path: Path) -> None:
    picture.crop((0, 0, picture.width, picture.height * 9 // 10)).save(path.with_suffix(".png"))


Saving = Callable[[Image.Image, Path], None]
COPIES: list[Saving] = [same_pixels, as_jpeg, smaller, mirrored, cropped]


def write(folder: Path, pictures: dict[str, Image.Image], save: Saving = lossless) -> Path:
    folder.mkdir(parents=True)
    for name, picture in pictures.items():
        save(picture, folder / name)
    return folder


def rain(folder: Path) -> SourceConfig:
    return SourceConfig(task="derain", weather="rain", photographs=str(folder))


def pairs(folder: Path) -> SourceConfig:
    return SourceConfig(task="derain", pairs=str(folder))


def parted(*sources: SourceConfig, seed: int = 0, share: float = 0.3) -> Backgrounds:
    small = {"versions": 1, "patch": 16, "validation_patch": 16, "workers": 0}
    return Backgrounds(DataConfig(sources=sources, **small), ("derain",), seed=seed, held_share=share)


def files(data: Backgrounds, part: str) -> list[Path]:
    """The file of the clean picture of each background of a part."""
    found = []
    for source, chosen in zip(data.sources, data.parts[part], strict=True):
        paths = source.photographs if hasattr(source, "photographs") else [s.clean.path for s in source.scenes]
        found += [paths[index] for index in chosen]
    return found


def scene(path: Path) -> str:
    """The scene that a file was made of: its name before a dash."""
    return path.stem.partition("-")[0]


def in_both(*sources: SourceConfig, share: float = 0.3) -> int:
    """The number of seeds with a scene in both parts."""
    data = [parted(*sources, seed=seed, share=share) for seed in SEEDS]
    return sum(
        bool(set(map(scene, files(each, "kept"))) & set(map(scene, files(each, "held")))) for each in data
    )


@pytest.mark.parametrize("share", [0.1, 0.5], ids=["a retraining", "a search"])
@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_in_another_source_is_in_the_part_of_the_picture(copy, share, pictures, tmp_path):
    own, other = write(tmp_path / "own", pictures), write(tmp_path / "other", pictures, copy)
    assert in_both(rain(own), rain(other), share=share) == 0
    (note,) = parted(rain(own), rain(other)).notes
    assert note.startswith(
        "data.sources.1: 8 of its backgrounds show the same picture as others of data.sources.0"
    )
    assert "they stay in one part" in note


def test_halves_of_files_and_a_folder_of_their_clean_pictures(pictures, tmp_path):
    """DID-MDN beside a folder of its clean pictures."""
    for number, picture in enumerate(pictures.values()):
        both = np.concatenate([np.asarray(picture) // 2, np.asarray(picture)], axis=1)
        for level in ("Heavy", "Medium", "Light"):
            write_image(tmp_path / "did" / f"Rain_{level}" / "train2018new" / f"{number}.jpg", both)
        write_image(tmp_path / "clean" / f"{number}.png", np.asarray(picture))
    sources = (pairs(tmp_path / "did"), rain(tmp_path / "clean"))
    assert in_both(*sources) == 0
    (note,) = parted(*sources).notes
    assert "8 of its backgrounds" in note
    assert "0.jpg (right half)" in note


def test_copies_within_a_source(pictures, tmp_path):
    """The same clean picture beside each level, and altered copies of another."""
    folder = write(tmp_path / "own", pictures)
    for place, save in enumerate(COPIES):
        save(pictures["coffee"], folder / f"coffee-{place}")
        lossless(pictures["chelsea"], folder / f"chelsea-{place}")
    assert in_both(rain(folder)) == 0
    (note,) = parted(rain(folder)).notes
    assert note.startswith(
        "data.sources.0: 12 of its backgrounds show the same picture as others of data.sources.0"
    )


def test_pictures_that_have_a_part_in_common_with_a_third_are_one(pictures, tmp_path):
    """The left half and the right half have nothing in common, but each is in the whole."""
    whole = Image.fromarray(read_image(builtin_photographs("training")["astronaut"]))
    halves = {"astronaut-0": whole.crop((0, 0, 256, 512)), "astronaut-1": whole.crop((256, 0, 512, 512))}
    own = write(tmp_path / "own", {**pictures, **halves})
    apart = [StoredImage(own / f"{name}.png") for name in ("astronaut-0", "astronaut-1")]
    (alone,) = identities([apart])
    assert len(set(alone)) == 2
    assert in_both(rain(own)) == 0


def test_different_pictures_are_not_fused(pictures, tmp_path):
    """Nor flat ones, which are alike but in their brightness."""
    flat = {f"flat{n}": Image.fromarray(np.full((64, 64, 3), 20 * n, np.uint8)) for n in range(6)}
    own = write(tmp_path / "own", {**pictures, **flat})
    data = parted(rain(own))
    assert not data.notes
    assert len(files(data, "held")) == round(0.3 * 14)


def test_the_very_file_in_two_sources_is_no_news(pictures, tmp_path):
    own = write(tmp_path / "own", pictures)
    (tmp_path / "link").symlink_to(own)
    data = parted(rain(own), SourceConfig(task="derain", weather="snow", photographs=str(tmp_path / "link")))
    assert not data.notes
    assert data.parts["held"][0] == data.parts["held"][1]


def pixels(data: Backgrounds, part: str) -> set[bytes]:
    return {read_image(path).tobytes() for path in files(data, part)}


class TestThePartitionIsAFunctionOfThePictures:
    @pytest.fixture
    def own(self, pictures, tmp_path):
        return write(tmp_path / "own", pictures)

    def held(self, *sources, **options):
        return [pixels(parted(*sources, seed=seed, **options), "held") for seed in SEEDS]

    def test_moved_renamed_and_saved_again(self, own, pictures, tmp_path):
        renamed = {f"{place}": picture for place, picture in enumerate(reversed(pictures.values()))}
        other = write(tmp_path / "deep" / "other", renamed, same_pixels)
        assert self.held(rain(own)) == self.held(rain(other))
        assert len({frozenset(each) for each in self.held(rain(own))}) > 5  # and the seed has a say

    def test_the_same_folder_twice_counts_once(self, own, pictures, tmp_path):
        again = write(tmp_path / "again", pictures, same_pixels)
        assert self.held(rain(own)) == self.held(rain(own), rain(own)) == self.held(rain(own), rain(again))

    def test_in_whatever_order_the_sources_are(self, own, pictures, tmp_path):
        few = write(tmp_path / "few", dict(list(pictures.items())[:3]), as_jpeg)
        assert self.held(rain(own), rain(few)) == self.held(rain(few), rain(own))

    def test_more_shares_take_more_of_the_same(self, own):
        fewer, more = self.held(rain(own), share=0.25), self.held(rain(own), share=0.5)
        assert all(len(one) == 2 and len(two) == 4 and one < two for one, two in zip(fewer, more, strict=True))


def test_one_picture_cannot_be_parted(pictures, tmp_path):
    copies = {f"{n}": pictures["coffee"] for n in range(3)}
    with pytest.raises(
        ManasError, match=r"data.sources.0: 1 background\(s\) .* two that show different pictures"
    ):
        parted(rain(write(tmp_path / "own", copies)))


class TestRemembering:
    @pytest.fixture
    def cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return tmp_path / "cache" / "manas"

    @pytest.fixture
    def own(self, pictures, tmp_path):
        return write(tmp_path / "own", pictures)

    @pytest.fixture
    def work(self, monkeypatch):
        """The names of the files that are decoded, and 'matches' where pictures are compared."""
        done = []
        monkeypatch.setattr(
            StoredImage, "read", lambda self: done.append(self.path.name) or read_image(self.path)
        )
        monkeypatch.setattr(module, "matches", lambda *sets: done.append("matches") or matching.matches(*sets))
        return done

    def names(self, own):
        return sorted(path.name for path in own.iterdir())

    def test_a_second_start_reads_no_picture(self, own, cache, work):
        first = parted(rain(own)).parts
        assert sorted(work) == sorted([*self.names(own), "matches"])
        work.clear()
        assert parted(rain(own)).parts == first
        assert work == []
        assert list(cache.glob("*/*.npz"))

    def test_a_file_that_was_changed_is_read_again(self, own, cache, work):
        parted(rain(own))
        work.clear()
        Image.new("RGB", (64, 64)).save(own / "coffee.png")
        parted(rain(own))
        assert work == ["coffee.png", "matches"]

    def test_what_is_damaged_is_made_again(self, own, cache, work):
        first = parted(rain(own)).parts
        kept = sorted(cache.glob("*/*.npz"))
        for path, content in zip(kept, (b"", b"no archive", *[kept[2].read_bytes()[:-300]] * 20), strict=False):
            path.write_bytes(content)
        work.clear()
        assert parted(rain(own)).parts == first
        assert sorted(work) == sorted([*self.names(own), "matches"])

    @pytest.mark.parametrize("blocked", ["a file", "no home"])
    def test_it_goes_on_where_nothing_can_be_kept(self, blocked, own, cache, work, tmp_path, monkeypatch):
        first = parted(rain(own)).parts
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file") if blocked == "a file" else "")
        monkeypatch.setattr(Path, "home", home_of_nobody)
        work.clear()
        assert parted(rain(own)).parts == first
        assert sorted(work) == sorted([*self.names(own), "matches"])

    @pytest.mark.usefixtures("cache")
    def test_the_halves_of_a_file_are_two_pictures(self, tmp_path):
        both = np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8)
        path = write_image(tmp_path / "both.png", both)
        left, right, whole = StoredImage(path, "left"), StoredImage(path, "right"), StoredImage(path)
        for _ in range(2):
            found = signatures([left, right, whole])
            for picture, pixels in ((left, both[:, :40]), (right, both[:, 40:]), (whole, both)):
                assert np.array_equal(found[picture].digest, signature(pixels).digest)


def home_of_nobody():
    raise RuntimeError("no home")
