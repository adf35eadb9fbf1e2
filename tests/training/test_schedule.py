"""The learning rate as a function of the step."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from manas.training.optimiser import OptimiserConfig
from manas.training.schedule import ScheduleConfig, set_rate


def factors(steps, **options):
    schedule = ScheduleConfig(**options)
    return [schedule.factor(step, steps) for step in range(steps)]


def test_cosine_from_one_to_the_floor():
    rates = factors(100, warmup=0, floor=0.2)
    assert rates[0] == 1
    assert rates[50] == pytest.approx(0.6)
    assert ScheduleConfig(warmup=0, floor=0.2).factor(100, 100) == pytest.approx(0.2)
    assert all(later < earlier for earlier, later in zip(rates, rates[1:], strict=False))
    for step, rate in enumerate(rates):
        assert rate == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * step / 100)))


def test_linear_warmup_then_cosine():
    rates = factors(100, warmup=0.1, floor=0)
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001


@pytest.mark.parametrize("floor", [0, 0.5, 1])
@pytest.mark.parametrize("warmup", [0, 0.02, 0.5, 0.999])
@pytest.mark.parametrize("steps", [1, 2, 3, 60, 1000])
def test_always_between_zero_and_one(steps, warmup, floor):
    rates = factors(steps, warmup=warmup, floor=floor)
    assert all(0 < rate <= 1 for rate in rates)
    assert max(rates) == 1  # the base rate is reached


def test_rates_of_groups_follow_their_base():
    parameter = nn.Parameter(torch.ones(1))
    optimiser = OptimiserConfig(rate=0.4).build([{"params": [parameter]}])
    for factor in (0.5, 0.25, 1.0):
        set_rate(optimiser, factor)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(0.4 * factor)


@pytest.mark.parametrize(
    "wrong", [{"warmup": 1}, {"warmup": -0.1}, {"floor": 1.1}, {"floor": -1}, {"kind": "step"}]
)
def test_values_out_of_range(wrong):
    with pytest.raises(ValidationError):
        ScheduleConfig(**wrong)


def test_the_rate_falls_after_given_shares_of_the_steps():
    """As MultiStepLR does (DRN: epochs 30, 50 and 80 of 100)."""
    parameter = nn.Parameter(torch.ones(1))
    optimiser = torch.optim.SGD([parameter], 1.0)
    reference = torch.optim.lr_scheduler.MultiStepLR(optimiser, [30, 50, 80], gamma=0.5)
    for rate in factors(100, warmup=0, drops=(0.3, 0.5, 0.8)):
        assert rate == reference.get_last_lr()[0]
        optimiser.step()
        reference.step()
    rates = factors(10, warmup=0.2, drops=(0.5,), drop=0.1)
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1])


def test_without_a_drop_the_rate_stays():
    assert set(factors(10, warmup=0, drops=())) == {1.0}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"drops": (0.5,), "floor": 0.1}, "set floor=0"),
        ({"drop": 0.5}, "without drops"),
        ({"drops": (), "drop": 0.5}, "without drops"),
        ({"drops": (0.0,)}, "greater than 0"),
        ({"drops": (1.0,)}, "less than 1"),
        ({"drops": (0.5,), "drop": 1.0}, "less than 1"),
    ],
)
def test_what_could_have_no_effect_is_refused(wrong, said):
    with pytest.raises(ValidationError, match=said):
        ScheduleConfig(**wrong)


@pytest.mark.parametrize("given", [{}, {"drops": (0.3, 0.5)}, {"drops": (0.5,), "drop": 0.2}])
def test_what_is_written_can_be_read(given):
    schedule = ScheduleConfig(**given)
    assert ScheduleConfig.model_validate(schedule.model_dump(mode="json")) == schedule
