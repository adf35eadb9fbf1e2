"""The losses against the published ones, written as loops, and finite wherever a training may take them."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from manas.restoration.losses import TERMS, LossWeights, image_terms, restoration_terms
from manas.restoration.network import Restoration
from manas.restoration.ssim import ssim

PUBLISHED = {"mse": 1.0, "ssim": 1.0, "tv": 1e-4, "internal": 1.0}


def random_images(*shape, dtype=torch.float64, seed=0):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def plain_ssim(x, y):
    """(3, H, W) -> a scalar: 11 x 11 Gaussian window, sigma 1.5, zero padding, mean over the map."""
    taps = torch.exp(-(torch.arange(-5.0, 6.0, dtype=x.dtype) ** 2) / (2 * 1.5**2))
    window = torch.outer(taps, taps)[None, None] / taps.sum() ** 2

    def blur(image):
        return F.conv2d(image[:, None], window, padding=5)

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y, covariance = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2, blur(x * y) - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + 0.01**2) * (2 * covariance + 0.03**2)
    return (numerator / ((mean_x**2 + mean_y**2 + 0.01**2) * (var_x + var_y + 0.03**2))).mean()


def plain_total_variation(x):
    """2 / b (sum |dy x|^2 / (C (H - 1) W) + sum |dx x|^2 / (C H (W - 1))) of (b, C, H, W)."""
    b, c, h, w = x.shape
    dy, dx = x[:, :, 1:] - x[:, :, :-1], x[:, :, :, 1:] - x[:, :, :, :-1]
    return 2 / b * ((dy**2).sum() / (c * (h - 1) * w) + (dx**2).sum() / (c * h * (w - 1)))


def published(outputs, clean):
    """The terms of one background: (K, 3, H, W), (3, H, W)."""
    return {
        "mse": sum(((output - clean) ** 2).mean() for output in outputs),
        "ssim": sum(1 - plain_ssim(output, clean) for output in outputs),
        "tv": 1e-4 * plain_total_variation(outputs),
        "internal": sum(((a - b) ** 2).mean() for a, b in itertools.combinations(outputs, 2)),
    }


@pytest.mark.parametrize("versions", [1, 2, 3, 5])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_term_equals_the_published_loop(name, versions):
    clean = random_images(2, 3, 12, 17, seed=1)
    output = random_images(2, versions, 3, 12, 17).requires_grad_()
    ours = PUBLISHED[name] * TERMS[name](output, clean)
    theirs = torch.stack([torch.as_tensor(published(o, c)[name]) for o, c in zip(output, clean, strict=True)])
    assert ours.shape == (2,)
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-10, atol=1e-12)
    if name == "internal" and versions == 1:
        assert not ours.any()
        return
    gradients = [torch.autograd.grad(loss.mean(), output)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-12)
    assert gradients[0].any()


def test_the_whole_loss_equals_the_published_one():
    """(1 / B) sum_i (external_i + internal_i)."""
    clean = random_images(4, 3, 12, 17, seed=1, dtype=torch.float32)
    output = random_images(4, 3, 3, 12, 17, dtype=torch.float32)
    terms = image_terms(output, clean, LossWeights().active(1.0))
    ours = sum(term.mean() for term in terms.values())
    loop = sum(sum(published(o, c).values()) for o, c in zip(output.double(), clean.double(), strict=True)) / 4
    torch.testing.assert_close(ours.double(), loop, rtol=1e-5, atol=1e-6)


def test_the_whole_loss_equals_the_closed_form():
    """3 mean(o - t)^2 + 3 (1 - mean ssim) + 2e-4 (mean dy^2 + mean dx^2) + 9 mean(o - mean_k o)^2."""
    clean, output = random_images(4, 3, 12, 17, seed=1), random_images(4, 3, 3, 12, 17)
    ours = sum(weight * TERMS[name](output, clean).mean() for name, weight in PUBLISHED.items())
    closed = (
        3 * (output - clean[:, None]).square().mean()
        + 3 * (1 - ssim(output, clean[:, None], mode="loss").mean())
        + 2e-4 * (output.diff(dim=3).square().mean() + output.diff(dim=4).square().mean())
        + 9 * (output - output.mean(1, keepdim=True)).square().mean()
    )
    torch.testing.assert_close(ours, closed, rtol=1e-12, atol=0)


def test_absolute_error():
    clean, output = random_images(2, 3, 8, 8, seed=1), random_images(2, 3, 3, 8, 8)
    expected = torch.stack([sum((o - c).abs().mean() for o in os) for os, c in zip(output, clean, strict=True)])
    torch.testing.assert_close(TERMS["l1"](output, clean), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", TERMS)
def test_a_background_does_not_see_the_others(name):
    clean, output = random_images(3, 3, 8, 8, seed=1), random_images(3, 2, 3, 8, 8)
    together = TERMS[name](output, clean)
    alone = torch.cat([TERMS[name](output[i : i + 1], clean[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-14)


# Weights


def test_the_default_weights_are_those_of_manas():
    assert LossWeights().active(1.0) == PUBLISHED


@pytest.mark.parametrize(
    ("progress", "on"), [(0.0, False), (0.0249, False), (0.025, True), (0.5, True), (1.0, True)]
)
def test_the_internal_loss_sets_in_later(progress, on):
    active = LossWeights().active(progress)
    assert ("internal" in active) == on
    assert {name: active[name] for name in ("mse", "ssim", "tv")} == {"mse": 1.0, "ssim": 1.0, "tv": 1e-4}


def test_a_term_without_weight_is_not_computed():
    weights = LossWeights(ssim=0, tv=0, internal=0, l1=0.5).active(1.0)
    assert weights == {"mse": 1.0, "l1": 0.5}
    terms = image_terms(random_images(2, 3, 3, 8, 8), random_images(2, 3, 8, 8), weights)
    assert list(terms) == ["mse", "l1"]


def test_an_internal_loss_without_weight_never_sets_in():
    assert "internal" not in LossWeights(internal=0, internal_after=0).active(1.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"mse": -1},
        {"internal_after": 1.5},
        {"internal_after": -0.1},
        {"psnr": 1.0},
        {"stages": -0.1},
        {"fused": -1},
        {"local": -1},
    ],
)
def test_weights_that_make_no_sense(fields):
    with pytest.raises(ValidationError):
        LossWeights(**fields)


def test_terms_are_weighted():
    output, clean = random_images(2, 3, 3, 8, 8), random_images(2, 3, 8, 8, seed=1)
    once = image_terms(output, clean, dict.fromkeys(TERMS, 1.0))
    thrice = image_terms(output, clean, dict.fromkeys(TERMS, 3.0))
    for name in TERMS:
        torch.testing.assert_close(thrice[name], 3 * once[name])


# Global and local


@pytest.fixture
def restoration():
    """Of two tasks, four backgrounds, three versions each."""
    outputs = [random_images(12, 3, 8, 8, seed=seed) for seed in range(3)]
    return Restoration({"derain": outputs[0], "desnow": outputs[1]}, outputs[2])


@pytest.fixture
def clean():
    return random_images(4, 3, 8, 8, seed=9)


def terms_of(restoration, clean, task, **changes):
    loss = LossWeights(**{"local": 0.5} | changes)
    return restoration_terms(restoration, clean, torch.tensor(task), loss, 1.0)


def published_sum(outputs, clean, background):
    """All published terms of one background among outputs (B * 3, 3, H, W)."""
    own = outputs[3 * background : 3 * background + 3]
    return sum(published(own, clean[background]).values())


def test_global_terms_are_means_over_backgrounds(restoration, clean):
    terms = terms_of(restoration, clean, [0, 1, 1, -1])
    expected = [published(restoration.fused[3 * i : 3 * i + 3], clean[i]) for i in range(4)]
    for name in PUBLISHED:
        mean = sum(each[name] for each in expected) / 4
        assert terms[f"global/{name}"].item() == pytest.approx(mean.item(), rel=1e-5)


@pytest.mark.parametrize("task", [[0, 1, 1, -1], [1, 0, -1, 0], [0, 0, 0, 0]])
def test_a_local_term_sums_over_its_own_samples_over_the_batch_size(task, restoration, clean):
    terms = terms_of(restoration, clean, task)
    for place, name in enumerate(("derain", "desnow")):
        own = [b for b in range(4) if task[b] == place]
        total = sum(published_sum(restoration.tasks[name], clean, b) for b in own)
        assert terms[f"local/{name}"].item() == pytest.approx(0.5 * float(total) / 4, rel=1e-5)


def test_an_absent_task_has_a_local_loss_of_zero(restoration, clean):
    terms = terms_of(restoration, clean, [0, 0, -1, 0])
    assert terms["local/desnow"].item() == 0
    assert terms["local/derain"].item() > 0


def test_clean_samples_have_no_local_loss(restoration, clean):
    terms = terms_of(restoration, clean, [-1, -1, -1, -1])
    assert terms["local/derain"].item() == terms["local/desnow"].item() == 0
    assert terms["global/mse"].item() > 0


def test_a_local_gradient_reaches_own_samples_only(restoration, clean):
    output = restoration.tasks["derain"].requires_grad_()
    terms = terms_of(restoration, clean, [0, 1, 0, -1])
    (gradient,) = torch.autograd.grad(terms["local/derain"], output)
    reached = gradient.unflatten(0, (4, 3)).flatten(1).any(1)
    assert reached.tolist() == [True, False, True, False]


def test_two_halves_average_to_the_whole(restoration, clean):
    """What ranks with their own parts of a batch need; a mean over own samples would fail."""
    task = [0, 0, 0, 1]
    whole = terms_of(restoration, clean, task)
    halves = []
    for half in (slice(0, 2), slice(2, 4)):
        images = slice(3 * half.start, 3 * half.stop)
        part = Restoration({k: v[images] for k, v in restoration.tasks.items()}, restoration.fused[images])
        halves.append(terms_of(part, clean[half], task[half]))
    for name, value in whole.items():
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, value)


def test_a_lone_tower_has_no_local_loss(restoration, clean):
    lone = Restoration({"derain": restoration.fused}, restoration.fused)
    expected = [f"global/{name}" for name in PUBLISHED]
    assert list(terms_of(lone, clean, [0, 0, 0, 0])) == expected
    assert list(terms_of(Restoration({}, restoration.fused), clean, [0, 0, 0, 0])) == expected


def test_no_local_terms_without_local_weight(restoration, clean):
    terms = terms_of(restoration, clean, [0, 1, 0, 1], local=0.0)
    assert list(terms) == [f"global/{name}" for name in PUBLISHED]


def test_every_term_is_a_scalar(restoration, clean):
    terms = terms_of(restoration, clean, [0, 1, 0, 1])
    assert all(term.shape == () for term in terms.values())
    assert set(terms) == {*(f"global/{name}" for name in PUBLISHED), "local/derain", "local/desnow"}


def test_a_loss_must_compare_and_look_at_something():
    with pytest.raises(ValidationError, match="give mse, l1 or ssim a weight"):
        LossWeights(mse=0, ssim=0)
    with pytest.raises(ValidationError, match="neither the fused nor the local restorations have a weight"):
        LossWeights(fused=0, local=0)


@pytest.mark.parametrize("fused", [0.25, 4.0])
def test_the_weight_of_the_fused_output(fused, restoration, clean):
    once, weighted = (terms_of(restoration, clean, [0, 1, 0, 1], fused=f) for f in (1.0, fused))
    for name, value in once.items():
        torch.testing.assert_close(weighted[name], value * (fused if name.startswith("global/") else 1))


def test_no_global_terms_without_its_weight(restoration, clean):
    terms = terms_of(restoration, clean, [0, 1, 0, 1], fused=0)
    assert list(terms) == ["local/derain", "local/desnow"]


def charbonnier(output, clean):
    return ((output - clean[:, None]).square() + 1e-6).sqrt().mean((2, 3, 4)).sum(1)


class TestATermOfOnesOwn:
    NAME = f"{__name__}:charbonnier"

    def test_it_is_a_term_like_the_others(self, restoration, clean):
        loss = LossWeights(mse=0, ssim=0, tv=0, internal=0, more={self.NAME: 2.0})
        assert loss.active(1.0) == {self.NAME: 2.0}
        terms = restoration_terms(restoration, clean, torch.tensor([0, 1, 0, -1]), loss, 1.0)
        expected = 2 * charbonnier(restoration.fused.unflatten(0, (4, -1)), clean).mean()
        torch.testing.assert_close(terms[f"global/{self.NAME}"], expected)
        assert any(key.startswith("local/") for key in terms)

    def test_it_reads_back(self):
        loss = LossWeights(more={self.NAME: 2.0})
        assert LossWeights.model_validate(loss.model_dump(mode="json")) == loss

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("charbonier", "no loss of kind 'charbonier' is installed"),
            (f"{__name__}:missing", "cannot import the loss"),
            (f"{__name__}:PUBLISHED", "is no function"),
            ("l1", "set loss.l1"),
        ],
    )
    def test_what_is_none_is_refused(self, name, said):
        with pytest.raises(ValidationError, match=said):
            LossWeights(more={name: 1.0})


def test_a_lone_tower_needs_neither_weight(restoration, clean):
    """Its output is the fused one, whatever is said of both."""
    lone = Restoration({"derain": restoration.fused}, restoration.fused)
    expected = terms_of(lone, clean, [0, 0, 0, 0])
    for changes in ({"fused": 0}, {"fused": 7.0}, {"local": 0}):
        found = terms_of(lone, clean, [0, 0, 0, 0], **changes)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


# Stages


@pytest.fixture
def staged(restoration):
    """The same, with the restorations of three stages of one tower, and of one of the other."""
    images = [random_images(12, 3, 8, 8, seed=20 + s) for s in range(4)]
    return restoration._replace(stages={"derain": images[:3], "desnow": images[3:]})


def plain_stages(images, clean, backgrounds, weight):
    """weight sum_s s (sum_k MSE + 1 - SSIM) of the s-th restoration, over some of four backgrounds."""
    total = 0.0
    for s, outputs in enumerate(images, start=1):
        for b in backgrounds:
            terms = published(outputs[3 * b : 3 * b + 3], clean[b])
            total += weight * s * float(terms["mse"] + terms["ssim"])
    return total / 4


@pytest.mark.parametrize("task", [[0, 1, 1, -1], [1, 0, -1, 0], [0, 0, 0, 0], [-1, -1, -1, -1]])
def test_stages_count_by_their_place_and_on_own_samples_alone(task, staged, clean):
    terms = terms_of(staged, clean, task, stages=0.1, local=0.5)
    for place, name in enumerate(("derain", "desnow")):
        own = [b for b in range(4) if task[b] == place]
        expected = 0.5 * plain_stages(staged.stages[name], clean, own, 0.1)
        assert terms[f"stages/{name}"].item() == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_stages_leave_the_other_terms_alone(staged, restoration, clean):
    plain, with_stages = terms_of(restoration, clean, [0, 1, 0, -1]), terms_of(staged, clean, [0, 1, 0, -1])
    assert with_stages.keys() - plain.keys() == {"stages/derain", "stages/desnow"}
    assert all(torch.equal(with_stages[name], value) for name, value in plain.items())


def test_the_gradient_of_a_stage_reaches_own_samples_only(staged, clean):
    images = [image.requires_grad_() for image in staged.stages["derain"]]
    terms = terms_of(staged, clean, [0, 1, 0, -1], stages=0.1)
    for gradient in torch.autograd.grad(terms["stages/derain"], images):
        assert gradient.unflatten(0, (4, 3)).flatten(1).any(1).tolist() == [True, False, True, False]


def test_all_samples_are_a_lone_towers_own(staged, clean):
    lone = Restoration({"derain": staged.fused}, staged.fused, {"derain": staged.stages["derain"]})
    for task in ([0, 0, 0, 0], [0, -1, 0, -1]):
        terms = terms_of(lone, clean, task, stages=0.1, local=0.5)
        expected = plain_stages(staged.stages["derain"], clean, range(4), 0.1)
        assert terms["stages/derain"].item() == pytest.approx(expected, rel=1e-5)


def test_stages_without_local_weight_count_nothing(staged, clean):
    terms = terms_of(staged, clean, [0, 1, 0, 1], stages=0.1, local=0)
    assert list(terms) == [f"global/{name}" for name in PUBLISHED]


# Invariant 10: finite everywhere, and a gradient wherever the loss is not stationary


def image_pairs():
    """name -> (outputs (2, 3, 3, 16, 16), clean (2, 3, 16, 16), terms that are stationary there)"""
    shape = (2, 3, 3, 16, 16)
    clean = random_images(2, 3, 16, 16, seed=1, dtype=torch.float32)
    noise = random_images(*shape, dtype=torch.float32)
    zeros, ones = torch.zeros(shape), torch.ones(shape)
    mixed = torch.stack([torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16), clean], 1)
    return {
        "identical": (clean[:, None].expand(shape), clean, {"mse", "l1", "ssim", "internal"}),
        "black": (zeros, clean, {"tv", "internal"}),
        "white": (ones, clean, {"tv", "internal"}),
        "black on white": (zeros, ones[:, 0], {"tv", "internal"}),
        "white on black": (ones, zeros[:, 0], {"tv", "internal"}),
        "grey on grey": (0.4 * ones, 0.6 * ones[:, 0], {"tv", "internal"}),
        "identical constants": (ones, ones[:, 0], set(TERMS)),
        "far outside": (200 * noise - 100, clean, set()),
        "black, white and right": (mixed, clean, set()),
        "almost identical": (clean[:, None] + 1e-2 * noise, clean, set()),
    }


@pytest.mark.parametrize("case", image_pairs())
@pytest.mark.parametrize("name", TERMS)
def test_loss_and_gradient_are_finite(name, case):
    output, clean, stationary = image_pairs()[case]
    output = output.clone().requires_grad_()
    (term,) = image_terms(output, clean, {name: 1.0}).values()
    (gradient,) = torch.autograd.grad(term.sum(), output)
    assert term.isfinite().all()
    assert gradient.isfinite().all()
    assert (term >= -1e-6).all()
    steepest = gradient.abs().max().item()
    assert steepest < 1e-6 if name in stationary else steepest > 1e-7


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_give_float32_terms(dtype):
    clean = random_images(2, 3, 16, 16, seed=1, dtype=torch.float32)
    output = (clean[:, None] + 0.05 * random_images(2, 3, 3, 16, 16, dtype=torch.float32)).to(dtype)
    weights = dict.fromkeys(TERMS, 1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = image_terms(output, clean, weights)
    exact = image_terms(output.float(), clean, weights)
    for name in TERMS:
        assert rough[name].dtype == torch.float32
        assert torch.equal(rough[name], exact[name])


def test_terms_of_a_half_precision_network(clean):
    output = random_images(12, 3, 8, 8, dtype=torch.float32).bfloat16()
    terms = terms_of(Restoration({"a": output, "b": output}, output), clean.float(), [0, 1, 0, 1])
    assert all(term.dtype == torch.float32 for term in terms.values())
