"""Batches: a function of the step alone, whatever the number of workers and ranks; parts without overlap."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from manas.data.dataset.backgrounds import Backgrounds
from manas.data.dataset.config import DataConfig, SourceConfig
from manas.data.dataset.crops import Crops
from manas.data.dataset.sources import Crop
from manas.data.dataset.stream import CropKey, Stream, partition
from manas.data.images import write_image
from manas.errors import ManasError

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


class TestStream:
    LENGTHS = (3, 5, 2)

    def keys(self, count, *, weights=(1, 1, 1), **options):
        return list(islice(Stream(self.LENGTHS, weights, seed=4, **options), count))

    def test_every_source_once_a_block(self):
        keys = self.keys(60)
        for block in range(0, 60, 3):
            assert sorted(key.source for key in keys[block : block + 3]) == [0, 1, 2]

    @pytest.mark.parametrize("ranks", range(1, 9))
    @pytest.mark.parametrize("sources", range(1, 4))
    def test_every_rank_meets_every_source(self, ranks, sources):
        for rank in range(ranks):
            keys = islice(Stream([7] * sources, [1] * sources, seed=0, start=rank, step=ranks), 40)
            assert {key.source for key in keys} == set(range(sources))

    def test_each_epoch_of_a_source_is_a_permutation(self):
        keys = self.keys(180)
        for source, length in enumerate(self.LENGTHS):
            own = [key for key in keys if key.source == source]
            orders = set()
            for epoch in range(60 // length):
                part = own[epoch * length : (epoch + 1) * length]
                assert {key.epoch for key in part} == {epoch}
                assert sorted(key.background for key in part) == list(range(length))
                orders.add(tuple(key.background for key in part))
            assert len(orders) > 1  # another order each time

    @pytest.mark.parametrize("weights", [(2, 1, 1), (1, 3, 5), (4, 1, 7)])
    def test_a_turn_holds_each_source_as_often_as_its_weight(self, weights):
        turn, turns = sum(weights), 60
        keys = self.keys(turn * turns, weights=weights)
        for start in range(0, len(keys), turn):
            sources = [key.source for key in keys[start : start + turn]]
            assert [sources.count(source) for source in range(3)] == list(weights)
        for source, length in enumerate(self.LENGTHS):  # and each goes through its own in whole epochs
            drawn = sorted(key[1:] for key in keys if key.source == source)
            whole = weights[source] * turns // length
            assert drawn[: whole * length] == [(e, b) for e in range(whole) for b in range(length)]

    def test_a_key_is_a_function_of_seed_and_position(self):
        stream, keys = Stream(self.LENGTHS, (1, 1, 1), seed=4), self.keys(50)
        for position in (49, 0, 17, 3, 17):
            assert (
                stream.key(position) == Stream(self.LENGTHS, (1, 1, 1), seed=4).key(position) == keys[position]
            )
        assert list(islice(Stream(self.LENGTHS, (1, 1, 1), seed=5), 50)) != keys

    @pytest.mark.parametrize("ranks", [2, 3, 4])
    def test_ranks_share_one_stream(self, ranks):
        whole = self.keys(ranks * 12)
        for rank in range(ranks):
            assert self.keys(12, start=rank, step=ranks) == whole[rank::ranks]

    def test_it_goes_on_from_any_position(self):
        assert self.keys(10, start=23) == self.keys(33)[23:]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Five photographs for rain and snow, four other scenes in pairs; every image has its own brightness."""
    root = tmp_path_factory.mktemp("backgrounds")
    for n in range(5):
        write_image(root / "clean" / f"{n}.png", np.full((20, 24, 3), 10 * n, np.uint8))
    for n in range(4):
        write_image(root / "pairs" / "clean" / f"{n}.png", np.full((24, 20, 3), 100 + 10 * n, np.uint8))
        for level, more in (("light", 1), ("heavy", 3)):
            picture = np.full((24, 20, 3), 100 + 10 * n + more, np.uint8)
            write_image(root / "pairs" / level / f"{n}.png", picture)
    return root


TASKS = ("derain", "desnow")


def config(root, **changes):
    clean = str(root / "clean")
    sources = (
        SourceConfig(task="derain", weather="rain", photographs=clean),
        SourceConfig(task="desnow", weather="snow", photographs=clean),
        SourceConfig(task="derain", pairs=str(root / "pairs")),
    )
    small = {"sources": sources, "versions": 2, "patch": 16, "batch": 4, "workers": 0, "validation_patch": 16}
    return DataConfig(**small | changes)


def backgrounds(root, seed=0, share=0.4, rank=0, world_size=1, **changes):
    process = {"rank": rank, "world_size": world_size}
    return Backgrounds(config(root, **changes), TASKS, seed=seed, held_share=share, **process)


def bits(batch):
    return [tensor.numpy().tobytes() for tensor in batch]


def test_shapes_types_and_tasks(folders):
    batch = next(backgrounds(folders).batches("kept"))
    assert batch.degraded.shape == (4, 2, 3, 16, 16)
    assert batch.clean.shape == (4, 3, 16, 16)
    assert batch.degraded.dtype == batch.clean.dtype == torch.float32
    assert batch.task.tolist() == [0, 1, 0, 1]  # rain, snow, pairs; then the next block, rotated
    assert 0 <= batch.degraded.min() < batch.degraded.max() <= 1


def test_the_number_of_workers_changes_no_bit(folders):
    by_workers = [
        [bits(batch) for batch in islice(backgrounds(folders, workers=workers).batches("kept", step=1), 4)]
        for workers in (0, 1, 2)
    ]
    assert by_workers[0] == by_workers[1] == by_workers[2]
    assert by_workers[0][0] != by_workers[0][1]


def test_batches_depend_on_the_seed_alone(folders):
    torch.manual_seed(1)
    np.random.seed(1)
    one = [bits(batch) for batch in islice(backgrounds(folders).batches("kept"), 3)]
    torch.manual_seed(2)
    np.random.seed(2)
    state = torch.get_rng_state()
    two = [bits(batch) for batch in islice(backgrounds(folders).batches("kept"), 3)]
    assert one == two
    assert torch.equal(state, torch.get_rng_state())  # the loader draws from its own
    assert [bits(batch) for batch in islice(backgrounds(folders, seed=1).batches("kept"), 3)] != one


def test_resuming_at_a_step_gives_the_same_continuation(folders):
    whole = [bits(batch) for batch in islice(backgrounds(folders).batches("held"), 6)]
    assert [bits(batch) for batch in islice(backgrounds(folders).batches("held", step=4), 2)] == whole[4:]


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_together_see_what_one_process_sees(ranks, folders):
    of_each = [backgrounds(folders, rank=rank, world_size=ranks).batches("kept") for rank in range(ranks)]
    for whole, *parts in islice(zip(backgrounds(folders).batches("kept"), *of_each, strict=True), 5):
        for tensor, of_ranks in zip(whole, zip(*parts, strict=True), strict=True):
            for rank, part in enumerate(of_ranks):
                assert torch.equal(tensor[rank::ranks], part)


def test_a_batch_that_ranks_cannot_share_is_named(folders):
    with pytest.raises(ManasError, match="data.batch=4 is not divisible by 3 processes"):
        backgrounds(folders, world_size=3)


class TestValidation:
    def test_the_same_crops_at_every_call(self, folders):
        data = backgrounds(folders, validation_images=4)
        calls = [[bits(batch) for batch in data.validation("held")] for _ in range(2)]
        assert calls[0] == calls[1]
        assert len(calls[0]) == 4 * 3  # images x sources
        assert len({tuple(each) for each in calls[0]}) == 4 * 2 + 2  # crops of flat pairs are all alike

    def test_one_background_a_batch_of_its_own_size(self, folders):
        for batch in backgrounds(folders, validation_patch=12).validation("held"):
            assert batch.degraded.shape == (1, 2, 3, 12, 12)

    def test_ranks_share_it(self, folders):
        data = backgrounds(folders)
        whole = [bits(batch) for batch in data.validation("held")]
        ranks = (backgrounds(folders, rank=rank, world_size=2) for rank in (0, 1))
        shares = [[bits(batch) for batch in rank.validation("held")] for rank in ranks]
        assert shares == [whole[0::2], whole[1::2]]

    def test_workers_change_no_bit(self, folders):
        by_workers = [
            [bits(batch) for batch in backgrounds(folders, workers=w).validation("held")] for w in (0, 1)
        ]
        assert by_workers[0] == by_workers[1]


class TestPartition:
    def brightness(self, batches, count):
        """Of the clean backgrounds, which tells them apart."""
        return {round(float(x) * 255) for batch in islice(batches, count) for x in batch.clean[:, 0, 0, 0]}

    @pytest.mark.parametrize("seed", range(5))
    def test_no_background_is_on_both_sides(self, seed, folders):
        data = backgrounds(folders, seed=seed)
        kept, held = (self.brightness(data.batches(part), 20) for part in ("kept", "held"))
        assert not kept & held
        assert kept | held == {0, 10, 20, 30, 40, 100, 110, 120, 130}
        assert self.brightness(data.validation("held"), 99) == held

    def test_sources_of_the_same_photographs_agree(self, folders):
        data = backgrounds(folders)
        assert data.parts["held"][0] == data.parts["held"][1]
        assert len(data.parts["held"][0]) == 2
        assert len(data.parts["held"][2]) == 2

    def test_it_is_seeded(self):
        names = [[str(n) for n in range(20)]]
        assert partition(names, 0.5, 3) == partition(names, 0.5, 3)
        assert len({frozenset(partition(names, 0.5, seed)) for seed in range(10)}) > 1

    @pytest.mark.parametrize(("share", "count"), [(0.5, 10), (0.2, 4), (0.01, 1), (0.3, 6)])
    def test_the_share_of_each_source(self, share, count):
        sources = [[f"{source}{n}" for n in range(20)] for source in "ab"]
        held = partition(sources, share, 0)
        assert [len(held & set(names)) for names in sources] == [count, count]

    @pytest.mark.parametrize("share", [0.01, 0.99])
    def test_at_least_one_on_each_side(self, share):
        names = ["a", "b", "c"]
        assert 0 < len(partition([names], share, 0)) < 3

    @pytest.mark.parametrize("seed", range(20))
    def test_sources_that_share_some_are_parted_too(self, seed):
        sources = [["a", "b"], ["b", "c"], ["a", "c", "d"]]
        held = partition(sources, 0.5, seed)
        for names in sources:
            assert 0 < len(held & set(names)) < len(names)

    @pytest.mark.parametrize("seed", range(20))
    @pytest.mark.parametrize("order", [1, -1])
    def test_a_part_of_another_source_is_parted_too(self, order, seed):
        sources = [[str(n) for n in range(20)], ["3", "4"]][::order]
        held = partition(sources, 0.2, seed)
        assert sorted(len(held & set(names)) for names in sources) == [1, 4]

    @pytest.mark.parametrize("seed", range(20))
    def test_the_order_of_names_and_sources_has_no_part_in_it(self, seed):
        sources = [[str(n) for n in range(20)], [str(n) for n in range(15, 25)]]
        held = partition(sources, 0.3, seed)
        assert held == partition([names[::-1] for names in sources[::-1]], 0.3, seed)
        assert held == partition([names * 2 for names in sources], 0.3, seed)

    @pytest.mark.parametrize("seed", range(20))
    def test_one_more_background_moves_one_other_at_most(self, seed):
        names = [str(n) for n in range(20)]
        held, of_more = (partition([each], 0.3, seed) for each in (names, [*names, "new"]))
        assert len(held) == len(of_more) == 6
        assert len(held - of_more) == (1 if "new" in of_more else 0)

    def test_each_is_drawn_as_often_as_any_other(self):
        names = [str(n) for n in range(10)]
        draws = [partition([names], 0.3, seed) for seed in range(2000)]
        for name in names:  # four standard deviations of the binomial distribution
            assert sum(name in held for held in draws) == pytest.approx(600, abs=82)

    def test_one_background_is_an_error(self):
        with pytest.raises(
            ManasError, match=r"data.sources.1: 1 background\(s\) cannot be parted; give at least"
        ):
            partition([["a", "b"], ["c"]], 0.5, 0)


class TestUnreadable:
    @pytest.fixture
    def source(self, tmp_path):
        for n in range(4):
            write_image(tmp_path / "clean" / f"{n}.png", np.full((20, 20, 3), n, np.uint8))
        return SourceConfig(task="derain", weather="rain", photographs=str(tmp_path / "clean"))

    def cut_off(self, source):
        for path in Path(source.photographs).iterdir():
            path.write_bytes(path.read_bytes()[:50])

    def check(self, error, source):
        assert str(error.value).count("\n") == 0
        assert source.photographs in str(error.value)
        assert "cannot read" in str(error.value)
        assert "Traceback" not in str(error.value)

    @pytest.mark.parametrize("workers", [0, 1])
    @pytest.mark.parametrize("part", ["batches", "validation"])
    def test_it_surfaces_as_one_line_that_names_the_file(self, part, workers, source, folders):
        data = backgrounds(folders, sources=(source,), workers=workers)
        self.cut_off(source)
        with pytest.raises(ManasError) as error:
            next(iter(getattr(data, part)("held")))
        self.check(error, source)

    def test_a_clean_picture_is_named_before_the_first_step(self, source, folders):
        self.cut_off(source)
        with pytest.raises(ManasError) as error:
            backgrounds(folders, sources=(source,))
        self.check(error, source)


class Told:
    """A source that tells with which generator it was asked."""

    def crop(self, index, patch, rng, *, augment):
        clean = np.full((patch, patch, 3), index, np.float32)
        return Crop(clean, rng.random((2, patch, patch, 3), dtype=np.float32))


def test_a_crop_is_a_function_of_its_whole_key():
    def crops(seed=0):
        return Crops([Told(), Told()], [[2, 0], [1]], [5, 6], patch=8, seed=seed, augment=True)

    one = crops()[CropKey(0, 0, 1)]
    assert one.clean.unique().tolist() == [0]  # place 1 of the chosen backgrounds of source 0
    assert one.task == 5
    assert bits(one) == bits(crops()[CropKey(0, 0, 1)])
    others = [
        crops()[CropKey(0, 1, 1)],
        crops()[CropKey(0, 0, 0)],
        crops()[CropKey(1, 0, 0)],
        crops(1)[CropKey(0, 0, 1)],
    ]
    assert len({bits(other)[0] for other in [one, *others]}) == 5


class TestCleanShare:
    def samples(self, share, draws=300):
        crops = Crops([Told()], [[0, 1, 2]], [5], patch=8, seed=0, augment=True, clean_share=share)
        return [crops[CropKey(0, epoch, place)] for epoch in range(draws // 3) for place in range(3)]

    def test_clean_samples_are_the_clean_crop_for_no_task(self):
        for sample in self.samples(0.3):
            assert sample.degraded.shape == (2, 3, 8, 8)
            assert sample.task in (5, -1)
            assert (sample.task == -1) == all(torch.equal(version, sample.clean) for version in sample.degraded)

    @pytest.mark.parametrize("share", [0.1, 0.5])
    def test_they_are_the_share(self, share):
        clean = np.mean([sample.task.item() == -1 for sample in self.samples(share, 900)])
        assert clean == pytest.approx(share, abs=0.05)

    def test_the_degraded_ones_are_what_they_were(self):
        without, with_clean = self.samples(0), self.samples(0.4)
        assert all(sample.task == 5 for sample in without)
        pairs = [(a, b) for a, b in zip(without, with_clean, strict=True) if b.task == 5]
        assert 100 < len(pairs) < 250
        assert all(bits(a) == bits(b) for a, b in pairs)

    def test_validation_has_none(self, folders):
        data = backgrounds(folders, clean_share=0.9, validation_images=4)
        assert all(batch.task.min() >= 0 for batch in data.validation("kept"))
        assert any(batch.task.min() < 0 for batch in islice(data.batches("kept"), 4))


def test_a_folder_of_decoded_images_changes_no_batch(folders, tmp_path):
    batches = [
        next(backgrounds(folders, workers=workers, cache_folder=cache).batches("kept"))
        for workers, cache in ((0, None), (0, str(tmp_path / "cache")), (1, str(tmp_path / "cache")))
    ]
    assert bits(batches[0]) == bits(batches[1]) == bits(batches[2])
    assert list((tmp_path / "cache").glob("*/*.npy"))


def test_weights_mix_the_sources(folders):
    heavy, light = config(folders).sources[0].model_copy(update={"weight": 3}), config(folders).sources[1]
    data = backgrounds(folders, sources=(heavy, light), batch=4)
    for batch in islice(data.batches("kept"), 6):
        assert sorted(batch.task.tolist()) == sorted([TASKS.index(heavy.task)] * 3 + [TASKS.index(light.task)])


@pytest.mark.parametrize("kind", ["pairs", "photographs"])
def test_a_background_smaller_than_the_crops_stops_before_the_first_step(kind, tmp_path):
    for name, size in (("a", 40), ("b", 40), ("c", 33)):
        for folder in ("clean", "light"):
            write_image(tmp_path / folder / f"{name}.png", np.zeros((40, size, 3), np.uint8))
    source = {"pairs": str(tmp_path)} if kind == "pairs" else {"weather": "rain", "photographs": str(tmp_path)}
    config = {"sources": (SourceConfig(task="derain", **source),), "versions": 1, "validation_patch": 16}
    Backgrounds(DataConfig(patch=33, **config), ("derain",), seed=0, held_share=0.3)
    with pytest.raises(
        ManasError, match=r"c\.png: 33x40 is smaller than the crops of 34 \(\d such files\); lower"
    ):
        Backgrounds(DataConfig(patch=34, **config), ("derain",), seed=0, held_share=0.3)


def test_a_source_without_tower_is_named(folders):
    with pytest.raises(ManasError, match="data.sources: no tower for the task 'derain'; valid: dehaze|did you"):
        Backgrounds(config(folders), ("dehaze",), seed=0, held_share=0.5)


def test_a_tower_without_source_is_told(folders):
    data = Backgrounds(config(folders), (*TASKS, "dehaze"), seed=0, held_share=0.5)
    assert [note for note in data.notes if "none is of the task 'dehaze'" in note] == data.notes[-1:]
    assert not any("none is of the task" in note for note in data.notes[:-1])


@pytest.mark.parametrize(
    "wrong",
    [{"patch": 7}, {"batch": 0}, {"versions": 0}, {"workers": -1}, {"sources": ()}, {"validation_patch": 10}],
)
def test_values_out_of_range(wrong):
    with pytest.raises(ValidationError):
        DataConfig(**wrong)


def test_tasks_of_the_sources_each_once(folders):
    assert config(folders).tasks == TASKS
