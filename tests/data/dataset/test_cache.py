"""Decoded images are read once, within their budget, and what is stored is what the file shows."""

import os
import pickle

import numpy as np
import pytest

from manas.data.dataset import cache as module
from manas.data.dataset.cache import ImageCache, ImageStore
from manas.data.images import read_image, write_image
from manas.errors import ManasError


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{n}.png" for n in range(4)]
    for path in paths:
        write_image(path, rng.integers(0, 256, (16, 20, 3), dtype=np.uint8))
    return paths


@pytest.fixture
def reads(monkeypatch):
    done = []
    monkeypatch.setattr(module, "read_image", lambda path: done.append(path) or read_image(path))
    return done


class TestImageCache:
    def test_reads_each_file_once_within_its_budget(self, pictures, reads):
        one, two, *_ = pictures
        cache = ImageCache(1 << 24)
        for path in (one, two, one, two):
            assert np.array_equal(cache.read(path), read_image(path))
        assert reads == [one, two]
        small = ImageCache(budget=1)
        for path in (one, one, two, one):
            small.read(path)
        assert reads[2:] == [one, two, one]
        assert small.used == small.read(one).nbytes

    def test_pictures_do_not_travel_to_workers(self, pictures):
        cache = ImageCache(budget=123)
        cache.read(pictures[0])
        arrived = pickle.loads(pickle.dumps(cache))
        assert (arrived.budget, len(arrived.images), arrived.used) == (123, 0, 0)


class TestImageStore:
    SIZE = 16 * 20 * 3

    def test_a_file_is_decoded_once_for_all_processes(self, pictures, reads, tmp_path):
        first, other = (ImageStore(tmp_path / "store", 1 << 24) for _ in range(2))
        for store in (first, other, pickle.loads(pickle.dumps(first))):
            for path in pictures:
                assert np.array_equal(store.read(path), read_image(path))
        assert reads == pictures
        assert isinstance(other.read(pictures[0]), np.memmap)

    def test_a_changed_file_is_decoded_again(self, pictures, tmp_path):
        store = ImageStore(tmp_path / "store", 1 << 24)
        store.read(pictures[0])
        write_image(pictures[0], np.full((8, 8, 3), 7, np.uint8))
        os.utime(pictures[0], (1, 1))
        assert np.array_equal(store.read(pictures[0]), np.full((8, 8, 3), 7))

    def test_its_budget_holds_across_processes(self, pictures, reads, tmp_path):
        budget = int(2.5 * (self.SIZE + 200))
        for _ in range(3):
            store = ImageStore(tmp_path / "store", budget)
            for path in pictures:
                assert np.array_equal(store.read(path), read_image(path))
        stored = list((tmp_path / "store").glob("*/*.npy"))
        assert len(stored) == 2
        assert sum(path.stat().st_size for path in stored) <= budget
        assert len(reads) == 4 + 2 + 2

    def test_its_budget_holds_while_two_fill_it(self, pictures, tmp_path):
        budget = int(2.5 * (self.SIZE + 200))
        stores = [ImageStore(tmp_path / "store", budget) for _ in range(2)]
        for place, path in enumerate(pictures):
            stores[place % 2].read(path)
        assert len(list((tmp_path / "store").glob("*/*.npy"))) == 2

    def test_a_file_that_another_process_renames_is_not_missed(self, pictures, tmp_path):
        """What was listed a moment ago is no longer there when its size is asked for."""
        store = ImageStore(tmp_path / "store", 1 << 24)
        (tmp_path / "store" / "00").mkdir(parents=True)
        (tmp_path / "store" / "00" / ".unfinished.npy").symlink_to("renamed")
        assert np.array_equal(store.read(pictures[0]), read_image(pictures[0]))

    def test_a_folder_that_cannot_be_written_is_named(self, pictures, tmp_path):
        for folder in (pictures[0], pictures[0] / "below"):
            with pytest.raises(ManasError, match="data.cache_folder: .*0.png.* cannot be written .*; give a"):
                ImageStore(folder, 1 << 24).read(pictures[1])

    def test_what_was_cut_off_is_decoded_again(self, pictures, tmp_path):
        store = ImageStore(tmp_path / "store", 1 << 24)
        store.read(pictures[0])
        (stored,) = (tmp_path / "store").glob("*/*.npy")
        for left in (0, 60, 200):
            stored.write_bytes(stored.read_bytes()[:left])
            assert np.array_equal(store.read(pictures[0]), read_image(pictures[0]))

    def test_a_missing_file_is_named_and_nothing_is_stored(self, tmp_path):
        store = ImageStore(tmp_path / "store", 1 << 24)
        with pytest.raises(ManasError, match="nowhere.png: no such file"):
            store.read(tmp_path / "nowhere.png")
        assert not (tmp_path / "store").exists()
