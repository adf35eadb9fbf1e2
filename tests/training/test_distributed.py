"""What differs between one process and many: averages of gradients, devices, the layout of weights."""

import os
import socket
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from manas.device import pick_device, place
from manas.errors import ManasError
from manas.searching.bilevel import descend
from manas.training.distributed import Process, floating_buffers, started
from manas.training.optimiser import Descent, OptimiserConfig, RunningStatistics

ALONE = Process(0, 1, torch.device("cpu"))
FIRST_OF_TWO = Process(0, 2, torch.device("cpu"))


@pytest.fixture
def other_rank(monkeypatch):
    """Adds what a second rank would send; without an argument, the same as the first."""

    def sends(message=None):
        monkeypatch.setattr(dist, "all_reduce", lambda flat: flat.add_(flat if message is None else message))

    return sends


def test_alone_nothing_happens():
    assert (ALONE.is_first, ALONE.gather("x")) == (True, ["x"])
    tensor = torch.ones(2)
    assert ALONE.sum(tensor) is tensor
    gradients = [torch.ones(2), None]
    assert ALONE.average(gradients, [tensor, tensor]) == gradients


def test_average_of_gradients(other_rank):
    other_rank(torch.tensor([3.0, 5.0, 7.0, 1.0, 1.0]))
    parameters = [torch.zeros(2), torch.zeros(1, 1)]
    first, second = FIRST_OF_TWO.average([torch.tensor([1.0, 1.0]), torch.tensor([[1.0]])], parameters)
    assert first.tolist() == [2, 3]
    assert second.tolist() == [[4]]


def test_what_a_rank_did_not_use_counts_as_zero_and_what_nobody_used_keeps_none(other_rank):
    other_rank(torch.tensor([0.0, 0.0, 8.0, 6.0, 0.0, 1.0, 1.0]))  # it used the second and the third
    parameters = [torch.zeros(2), torch.zeros(1), torch.zeros(1)]
    first, second, third = FIRST_OF_TWO.average([None, None, torch.tensor([2.0])], parameters)
    assert first is None
    assert (second.tolist(), third.tolist()) == ([4], [4])


def test_ranks_that_used_all_and_ranks_that_did_not_agree(other_rank):
    """One rank used everything, the other not: both get the same."""
    parameters = [torch.zeros(1), torch.zeros(1)]
    other_rank(torch.tensor([0.0, 4.0, 0.0, 1.0]))
    of_first = FIRST_OF_TWO.average([torch.tensor([2.0]), torch.tensor([2.0])], parameters)
    other_rank(torch.tensor([2.0, 2.0, 1.0, 1.0]))
    of_second = Process(1, 2, torch.device("cpu")).average([None, torch.tensor([4.0])], parameters)
    assert [g.tolist() for g in of_first] == [g.tolist() for g in of_second] == [[1], [3]]


@pytest.mark.parametrize("process", [ALONE, FIRST_OF_TWO], ids=["alone", "two ranks"])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_step_in_channels_last_is_the_same_step(name, process, other_rank):
    """A fused step reads memory as it lies: gradient and weight must lie alike."""
    other_rank()
    torch.manual_seed(0)
    usual = nn.Conv2d(4, 6, 3)
    laid_out = place(nn.Conv2d(4, 6, 3), torch.device("cpu"))
    laid_out.load_state_dict(usual.state_dict())
    images = torch.randn(2, 4, 8, 8)
    optimiser = OptimiserConfig(name=name, rate=0.1)
    for net, images_of in ((usual, images), (laid_out, images.contiguous(memory_format=torch.channels_last))):
        parameters = list(net.parameters())
        step = Descent(optimiser.build([{"params": parameters}]), RunningStatistics(net), None)
        for _ in range(2):
            gradients = torch.autograd.grad(net(images_of).square().mean(), parameters)
            descend(gradients, step, process if net is laid_out else ALONE)
    torch.testing.assert_close(laid_out.weight, usual.weight, rtol=1e-4, atol=1e-5)


def test_place_keeps_values():
    network = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Linear(2, 2))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    placed = place(network, torch.device("cpu"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in placed.state_dict().items())
    assert placed[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_floating_buffers_leave_counters_out():
    norm = nn.BatchNorm2d(3)
    assert [id(b) for b in floating_buffers(norm)] == [id(norm.running_mean), id(norm.running_var)]


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ManasError, match="device=tpu is not available here; choose auto or one of: .*cpu"):
        pick_device("tpu")


def test_a_plain_process_is_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with started("cpu") as process:
        assert process == ALONE
    assert not dist.is_initialized()


def test_autocast_is_for_bf16_alone():
    layer, image = nn.Conv2d(3, 3, 1), torch.rand(1, 3, 4, 4)
    with ALONE.autocast("float32"):
        assert layer(image).dtype == torch.float32
    with ALONE.autocast("bf16"):
        assert layer(image).dtype == torch.bfloat16


def _statistics_of_a_rank(rank, port, means):
    warnings.simplefilter("error", FutureWarning)
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with started("cpu") as process:
        means[rank] = _running_mean_after(100, process)
    threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    assert not any("gloo" in name for name in threads), "they may abort the end of the interpreter"


def _running_mean_after(steps, process):
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1))
    parallel = process.in_parallel(network)
    for _ in range(steps):
        parallel(10.0 * process.rank + torch.zeros(2, 1, 4, 4)).sum().backward()
    process.average_statistics(network)
    return network[0].running_mean


def test_the_running_statistics_are_those_of_all_ranks():
    means = torch.zeros(2).share_memory_()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    torch.multiprocessing.spawn(_statistics_of_a_rank, (port, means), nprocs=2)
    assert means.tolist() == pytest.approx([5, 5], abs=0.01)
