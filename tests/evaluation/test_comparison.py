"""The paired bootstrap, held against NumPy, against t intervals, and against known truths."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from manas.errors import ManasError
from manas.evaluation.bootstrap import FEWEST, RESAMPLES, interval_of
from manas.evaluation.comparison import compare
from manas.evaluation.results import Evaluation
from manas.evaluation.scores import ImageScores

BEFORE = {"psnr": 20.0, "ssim": 0.5}


def evaluated(model, psnrs, levels=("light",), names=None, ssims=None):
    """PSNRs of every level, for one background after the other."""
    keys = [(level, name) for level in levels for name in names or range(len(psnrs) // len(levels))]
    ssims = ssims or [psnr / 100 for psnr in psnrs]
    images = tuple(
        ImageScores("rain", level, f"{name}", BEFORE, {"psnr": psnr, "ssim": ssim})
        for (level, name), psnr, ssim in zip(keys, psnrs, ssims, strict=True)
    )
    return Evaluation("derain", images, "a set", model)


def noisy(seed, count=30, better=0.0, spread=1.0):
    """PSNRs of A and B, whose differences are normal."""
    rng = np.random.default_rng(seed)
    one = rng.normal(30, 4, count)
    return list(one), list(one + better + rng.normal(0, spread, count))


class TestInterval:
    def test_it_is_that_of_resampled_clusters(self):
        rng = np.random.default_rng(1)
        names = [f"{name}" for name in rng.integers(0, 12, 40)]
        values = rng.normal(0.3, 1, 40)
        clusters = [values[[name == other for other in names]] for name in dict.fromkeys(names)]
        means = []
        for _ in range(RESAMPLES):
            drawn = [clusters[place] for place in rng.integers(0, len(clusters), len(clusters))]
            means.append(np.concatenate(drawn).mean())
        expected = np.quantile(means, [0.025, 0.975])
        np.testing.assert_allclose(interval_of(values, names, 0), expected, atol=0.02)

    def test_it_is_nearly_that_of_student(self):
        one, other = noisy(2, count=200, better=0.4)
        differences = np.subtract(other, one)
        half = student.ppf(0.975, 199) * differences.std(ddof=1) / math.sqrt(200)
        expected = differences.mean() - half, differences.mean() + half
        found = interval_of(differences, [f"{place}" for place in range(200)], 0)
        np.testing.assert_allclose(found, expected, atol=0.02)

    def test_levels_of_one_background_are_no_new_evidence(self):
        """The same differences at three levels: an interval over images would be narrower by sqrt(3)."""
        values = list(np.random.default_rng(3).normal(0, 1, 20))
        names = [f"{place}" for place in range(20)]
        once, thrice = interval_of(values, names, 0), interval_of(values * 3, names * 3, 0)
        np.testing.assert_allclose(thrice, once, atol=1e-12)
        apart = interval_of(values * 3, [f"{place}" for place in range(60)], 0)
        assert apart[1] - apart[0] < 0.65 * (once[1] - once[0])

    def test_it_is_a_function_of_the_seed(self):
        values, names = list(np.random.default_rng(0).normal(size=20)), [f"{place}" for place in range(20)]
        assert interval_of(values, names, 0) == interval_of(values, names, 0) != interval_of(values, names, 1)

    @given(st.lists(st.floats(-5, 5), min_size=6, max_size=12))
    def test_it_lies_within_the_differences(self, values):
        low, high = interval_of(values, [f"{place}" for place in range(len(values))], 0)
        assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


class TestCompare:
    def test_a_clear_difference(self):
        one, other = noisy(0, better=0.8, spread=0.5)
        psnr, ssim = compare(evaluated("a", one), evaluated("b", other)).differences
        assert (psnr.measure.name, ssim.measure.name) == ("psnr", "ssim")
        assert (psnr.label, psnr.images, psnr.backgrounds, psnr.left_out) == ("rain, light", 30, 30, 0)
        assert psnr.means == pytest.approx((np.mean(one), np.mean(other)))
        assert psnr.mean == pytest.approx(np.mean(other) - np.mean(one))
        assert psnr.interval[0] < psnr.mean < psnr.interval[1]
        assert ssim.interval == pytest.approx(np.divide(psnr.interval, 100))
        assert psnr.verdict == "B is better, more than chance"
        back = compare(evaluated("b", other), evaluated("a", one)).differences[0]
        assert back.verdict == "A is better, more than chance"
        np.testing.assert_allclose(back.interval, -np.array(psnr.interval)[::-1], atol=0.02)

    def test_pairing_finds_what_means_alone_would_not(self):
        """Images differ by 4 dB, models by 0.3 dB."""
        one, other = noisy(0, better=0.3, spread=0.2)
        assert compare(evaluated("a", one), evaluated("b", other)).differences[0].better == "B"
        shuffled = list(np.random.default_rng(0).permutation(other))
        assert compare(evaluated("a", one), evaluated("b", shuffled)).differences[0].better is None

    def test_chance_is_called_chance(self):
        found = [
            compare(evaluated("a", one), evaluated("b", other)).differences[0]
            for one, other in (noisy(seed) for seed in range(20))
        ]
        assert sum(difference.better is not None for difference in found) <= 3
        assert found[0].verdict == "no more than chance"

    def test_models_that_do_the_same(self):
        one, _ = noisy(0)
        same = compare(evaluated("a", one), evaluated("b", one)).differences[0]
        assert (same.mean, same.interval, same.better) == (0, (0, 0), None)

    def test_too_few_backgrounds(self):
        names = [f"{place}" for place in range(FEWEST - 1)]
        one, other = (
            evaluated(model, [psnr] * 15, ("light", "medium", "heavy"), names)
            for model, psnr in (("a", 20), ("b", 30))
        )
        differences = compare(one, other).differences
        assert {difference.verdict for difference in differences} == {
            "too few backgrounds to tell: 5, of 6 needed"
        }
        assert differences[-2].images == 15
        assert {row[-2] for row in compare(one, other).table().rows} == {""}

    def test_rows_are_those_of_the_table(self):
        one = evaluated("a", [20.0] * 12, ("light", "heavy"))
        labels = [difference.label for difference in compare(one, replace(one, model="b")).differences]
        assert labels[::2] == labels[1::2] == [row[0] for row in one.table().rows]

    def test_infinite_values_are_left_out_in_pairs(self):
        one, other = noisy(0, count=10, better=1, spread=0.1)
        one[3] = other[3] = other[5] = math.inf
        ssims = [0.5] * 10
        comparison = compare(evaluated("a", one, ssims=ssims), evaluated("b", other, ssims=ssims))
        psnr, ssim = comparison.differences
        kept = [place for place in range(10) if place not in (3, 5)]
        assert (psnr.images, psnr.left_out, psnr.backgrounds) == (8, 2, 8)
        assert psnr.means == pytest.approx((np.mean(np.take(one, kept)), np.mean(np.take(other, kept))))
        assert (ssim.images, ssim.left_out) == (10, 0)
        assert "images without a finite PSNR are left out of it" in comparison.table().caption

    def test_nothing_is_finite(self):
        perfect = evaluated("a", [math.inf] * 8, ssims=[1.0] * 8)
        row = compare(perfect, replace(perfect, model="b")).table().rows[0]
        assert row == (
            "rain, light",
            "PSNR",
            "0",
            "0",
            "inf",
            "inf",
            "",
            "",
            "too few backgrounds to tell: 0, of 6 needed",
        )

    def test_the_order_of_images_does_not_matter(self):
        one, other = noisy(0)
        a, b = evaluated("a", one), evaluated("b", other)
        assert compare(a, replace(b, images=b.images[::-1])).differences == compare(a, b).differences

    def test_the_caption_says_all(self):
        one, other = noisy(0)
        comparison = compare(evaluated("a.csv", one), evaluated("b.csv", other))
        for text in (comparison.to_markdown(), comparison.to_latex()):
            for part in (
                "a set: 30 images, protocol derain",
                "A is a.csv, B is b.csv",
                "10,000 resamples",
                "one background",
            ):
                assert part in text


class TestBadInput:
    one = evaluated("a.csv", [20.0] * 8)

    @pytest.mark.parametrize(
        ("other", "says"),
        [
            (
                lambda one: replace(one, protocol="rgb"),
                "a.csv is scored by protocol derain, b.csv by rgb: score both",
            ),
            (
                lambda one: replace(one, images=one.images[2:]),
                r"b.csv: rain, light, 0 is missing, which a.csv has \(2 images in all\)",
            ),
            (
                lambda one: replace(one, images=(*one.images, replace(one.images[0], name="x"))),
                r"a.csv: rain, light, x is missing, which b.csv has \(1 image in all\)",
            ),
            (
                lambda one: replace(one, images=(*one.images, *one.images[3:5])),
                r"b.csv: rain, light, 3 is there twice \(2 images in all\); leave one of each",
            ),
            (
                lambda one: replace(
                    one, images=(replace(one.images[0], degraded=BEFORE | {"psnr": 20.01}), *one.images[1:])
                ),
                "rain, light, 0: the input has 20.00 dB in a.csv and 20.01 dB in b.csv",
            ),
        ],
    )
    def test_evaluations_of_other_images(self, other, says):
        with pytest.raises(ManasError, match=says):
            compare(self.one, replace(other(self.one), model="b.csv"))

    def test_inputs_that_differ_by_rounding_or_are_infinite_or_unknown(self):
        for degraded in (BEFORE | {"psnr": 20.000001}, None):
            images = tuple(replace(image, degraded=degraded) for image in self.one.images)
            compare(self.one, replace(self.one, images=images))
        images = tuple(replace(image, degraded={"psnr": math.inf, "ssim": 1}) for image in self.one.images)
        compare(replace(self.one, images=images), replace(self.one, images=images))
