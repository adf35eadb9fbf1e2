"""The gradients of a search against derivatives by brute force, and the step that follows them.

Started as a program with the path of a folder, it is one of two processes that share a batch.
"""

import copy
import os
import socket
import subprocess
import sys
import warnings
import weakref
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from training.tiny_runs import environment, identical, python, tower

from manas.architecture.choice import Moment, architecture_parameters, choices_of, relax, weight_parameters
from manas.architecture.space import SearchSpace
from manas.relaxations.dirichlet import Dirichlet
from manas.relaxations.gumbel import Gumbel
from manas.relaxations.sigmoid import Sigmoid
from manas.relaxations.softmax import Softmax
from manas.searching import bilevel
from manas.searching.bilevel import descend
from manas.training.distributed import Process, started
from manas.training.optimiser import Descent, OptimiserConfig, RunningStatistics, decay_groups

ALONE = Process(0, 1, torch.device("cpu"))
GDAS = partial(Gumbel, runs="sampled")
OPTIMISERS = {
    "sgd": OptimiserConfig(name="sgd", rate=0.3, betas=(0.8, 0.9), decay=0.1),
    "adam": OptimiserConfig(name="adam", rate=0.1, betas=(0.7, 0.9), decay=0.1),
    "adamw": OptimiserConfig(name="adamw", rate=0.1, betas=(0.7, 0.9), decay=0.1),
}


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(())


class Smooth(SearchSpace):
    """Forks over smooth candidates, one inside another; its weights and alphas are few."""

    norm: bool = True

    def build(self, decide):
        inside = {"gate": lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.Sigmoid()), "layer": self.layer}
        nested = {"none": Zero, "layer": self.layer, "fork": lambda: decide("first/inside", inside)}
        last = {"skip": nn.Identity, "layer": partial(self.layer, size=1)}
        return nn.Sequential(
            self.layer(3), decide("first", nested), decide("last", last), nn.Conv2d(2, 3, 1), nn.Softplus()
        )

    def layer(self, inputs: int = 2, size: int = 3) -> nn.Module:
        norm = [nn.BatchNorm2d(2)] if self.norm else []
        return nn.Sequential(nn.Conv2d(inputs, 2, size, padding=size // 2), *norm, nn.Tanh())


def batch(seed, size=4):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(size, 3, 5, 5, dtype=torch.float64, generator=generator) for _ in range(2))


KEPT, HELD = batch(11), batch(12)


def loss_on(images_and_targets):
    images, targets = images_and_targets
    return lambda forward: (forward(images) - targets).square().mean()


def first_order(loss, parts, parameters):
    """The gradient of a loss without terms."""
    return bilevel.first_order(lambda part: (loss(part), {}), parts, parameters)[0]


def second_order(network, optimiser, alphas, kept, held, process):
    """The gradient of losses without terms."""
    losses = (lambda forward, loss=loss: (loss(forward), {}) for loss in (kept, held))
    return bilevel.second_order(network, optimiser, alphas, *losses, process)[0]


def supernet(*, relaxation=None, norm=True, recompute=False):
    torch.manual_seed(0)
    relaxation = relaxation or Softmax(temperature=1.5)
    network = Smooth(norm=norm).supernet(relaxation, recompute=recompute).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator))
    relax(network, relaxation.at(Moment(0.0, 1, 2), choices_of(network)))
    return network


def optimiser_of(network, name, *, steps=0):
    """After some steps on a loss of another batch."""
    optimiser = OPTIMISERS[name].build(decay_groups(network))
    for group in optimiser.param_groups:
        if "eps" in group:
            group["eps"] = 0.01  # a first step of Adam is otherwise a sign, whose derivative is nothing to see
    weights = weight_parameters(network)
    for seed in range(steps):
        gradients = torch.autograd.grad(loss_on(batch(seed))(network), weights, allow_unused=True)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        optimiser.step()
        optimiser.zero_grad()
    return optimiser


def of_the_alphas(network, optimiser, kept=KEPT, held=HELD, process=ALONE):
    alphas = architecture_parameters(network)
    return second_order(network, optimiser, alphas, loss_on(kept), loss_on(held), process)


def close(found, expected, tolerance=1e-7):
    """Compared with the largest entry; None only where the other has it too."""
    assert [g is None for g in found] == [g is None for g in expected]
    found, expected = (
        torch.cat([g.reshape(-1) for g in gradients if g is not None]) for gradients in (found, expected)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * expected.abs().max().item())


def stepped(network, optimiser):
    """Copies of both after one true step of the optimiser on the kept part."""
    network, optimiser = copy.deepcopy((network, optimiser))
    weights = weight_parameters(network)
    gradients = torch.autograd.grad(loss_on(KEPT)(network.train()), weights, allow_unused=True)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    optimiser.step()
    return network


def by_brute_force(network, optimiser, *, training=True, step=3e-3):
    """The derivative in every alpha of the held loss after a true step of the optimiser: a five-point rule.

    The held loss is that of the new weights with the running statistics from before the step.
    """

    def value():
        after = stepped(network, optimiser).train(training)
        for buffer, before in zip(after.buffers(), network.buffers(), strict=True):
            buffer.copy_(before)
        return loss_on(HELD)(after).item()

    gradients = []
    with torch.no_grad():
        for alpha in architecture_parameters(network):
            gradients.append(torch.empty_like(alpha))
            for k in range(len(alpha)):
                here, values = alpha[k].item(), []
                for shift in (-2, -1, 1, 2):
                    alpha[k] = here + shift * step
                    with torch.enable_grad():
                        values.append(value())
                alpha[k] = here
                gradients[-1][k] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    return gradients


def without_the_second_term(network, optimiser):
    after = stepped(network, optimiser)
    return torch.autograd.grad(loss_on(HELD)(after), architecture_parameters(after))


class TestSecondOrder:
    @pytest.mark.parametrize("name", OPTIMISERS)
    @pytest.mark.parametrize(
        ("norm", "steps", "relaxation"),
        [
            (False, 0, Softmax(temperature=1.5)),
            (False, 3, Softmax(temperature=1.5)),
            (True, 0, Softmax(temperature=1.5)),
            (True, 3, Softmax(temperature=1.5)),
            (True, 3, Sigmoid()),
        ],
        ids=["no norm, first step", "no norm", "norm, first step", "norm", "norm, sigmoid"],
    )
    def test_it_is_the_derivative(self, norm, steps, name, relaxation):
        network = supernet(norm=norm, relaxation=relaxation)
        optimiser = optimiser_of(network, name, steps=steps)
        expected = by_brute_force(network, optimiser)
        close(of_the_alphas(network, optimiser), expected)
        partly = torch.cat(without_the_second_term(network, optimiser))
        assert (partly - torch.cat(expected)).abs().max() > 1e-3 * torch.cat(expected).abs().max()

    @pytest.mark.parametrize("name", OPTIMISERS)
    def test_by_running_statistics(self, name):
        """Those from before the look-ahead, which no alpha moves: the derivative is exact with them, too."""
        network = supernet()
        optimiser = optimiser_of(network, name, steps=3)
        found = second_order(
            network,
            optimiser,
            architecture_parameters(network),
            lambda forward: network.train() and loss_on(KEPT)(forward),
            lambda forward: network.eval() and loss_on(HELD)(forward),
            ALONE,
        )
        close(found, by_brute_force(network, optimiser, training=False))

    @pytest.mark.parametrize("kind", [Softmax, Sigmoid, Gumbel, GDAS, Dirichlet])
    @pytest.mark.parametrize("draw", range(3))
    def test_it_is_what_differentiating_the_whole_step_gives(self, kind, draw):
        """A sample is no smooth function of its alphas; the chain rule holds for its gradient all the same."""
        network = supernet()
        optimiser, alphas = optimiser_of(network, "sgd", steps=2), architecture_parameters(network)
        relax(network, kind().at(Moment(0.5, 1, draw), choices_of(network)))
        groups = {id(p): group for group in optimiser.param_groups for p in group["params"]}
        weights = {name: p for name, p in network.named_parameters() if id(p) in groups}
        twin = copy.deepcopy(network)
        gradients = torch.autograd.grad(
            loss_on(KEPT)(network), list(weights.values()), create_graph=True, allow_unused=True
        )
        after = {}
        for (name, w), g in zip(weights.items(), gradients, strict=True):
            momentum, decay = optimiser.state[w]["momentum_buffer"], groups[id(w)]["weight_decay"]
            after[name] = w if g is None else w - 0.3 * (0.8 * momentum + g + decay * w.detach())
        held = loss_on(HELD)(lambda images: functional_call(network, after, (images,)))
        expected = torch.autograd.grad(held, alphas, allow_unused=True)
        network.load_state_dict(twin.state_dict())
        close(of_the_alphas(network, optimiser), expected, tolerance=1e-10)
        if kind is GDAS and draw == 0:
            assert any(g is None for g in gradients)

    @pytest.mark.parametrize("steps", [0, 2])
    @pytest.mark.parametrize("name", OPTIMISERS)
    def test_nothing_is_changed(self, name, steps):
        network = supernet()
        optimiser = optimiser_of(network, name, steps=steps)
        named = [*network.named_parameters(), *network.named_buffers()]
        values = [tensor.detach().clone() for _, tensor in named]
        state = copy.deepcopy(optimiser.state_dict())
        marked = next(network.parameters())
        marked.grad = mark = torch.ones_like(marked)
        of_the_alphas(network, optimiser)
        after = [*network.named_parameters(), *network.named_buffers()]
        assert all(a[0] == b[0] and a[1] is b[1] for a, b in zip(after, named, strict=True))
        assert identical([tensor.detach() for _, tensor in after], values)
        assert identical(optimiser.state_dict(), state)
        assert marked.grad is mark
        assert torch.equal(mark, torch.ones_like(mark))
        assert all(p.grad is None for p in network.parameters() if p is not marked)
        assert all(p.requires_grad for p in network.parameters())

    def test_an_exception_moves_no_running_statistics(self):
        network = supernet()
        optimiser = optimiser_of(network, "sgd")
        before, objects = copy.deepcopy(network.state_dict()), dict(network.named_buffers())

        def failing(forward):
            loss_on(HELD)(forward)
            raise RuntimeError("out of memory")

        with pytest.raises(RuntimeError, match="out of memory"):
            second_order(network, optimiser, architecture_parameters(network), loss_on(KEPT), failing, ALONE)
        assert identical(dict(network.state_dict()), dict(before))
        assert all(buffer is objects[name] for name, buffer in network.named_buffers())

    @pytest.mark.parametrize("norm", [False, True], ids=["no norm", "norm"])
    def test_with_recomputation(self, norm):
        found = []
        for recompute in (False, True):
            network = supernet(norm=norm, recompute=recompute)
            objects, before = dict(network.named_buffers()), copy.deepcopy(network.state_dict())
            found.append(of_the_alphas(network, optimiser_of(network, "adam")))
            assert all(buffer is objects[name] for name, buffer in network.named_buffers())
            assert identical(dict(network.state_dict()), dict(before))
        close(found[1], found[0], tolerance=1e-10)

    def test_an_alpha_that_no_loss_depends_on_has_none(self):
        network = supernet()
        alphas = [*architecture_parameters(network), nn.Parameter(torch.zeros(2).double())]
        found = second_order(network, optimiser_of(network, "sgd"), alphas, loss_on(KEPT), loss_on(HELD), ALONE)
        assert found[-1] is None
        close(found[:-1], of_the_alphas(network, optimiser_of(network, "sgd")), tolerance=1e-12)

    def test_an_alpha_that_only_the_step_depends_on(self):
        """Its gradient is the second term alone."""
        network, extra = supernet(norm=False), nn.Parameter(torch.tensor(0.7).double())
        optimiser = optimiser_of(network, "sgd")

        def kept(forward):
            return extra.square() * loss_on(KEPT)(forward)

        (found,) = second_order(network, optimiser, [extra], kept, loss_on(HELD), ALONE)
        values = []
        for value in (0.7 - 1e-5, 0.7 + 1e-5):
            twin, own = copy.deepcopy((network, optimiser))
            (value**2 * loss_on(KEPT)(twin)).backward()
            own.step()
            values.append(loss_on(HELD)(twin).item())
        assert found.item() == pytest.approx((values[1] - values[0]) / 2e-5, rel=1e-6)

    def test_a_loss_that_is_linear_in_a_weight(self):
        """Its gradient is a constant, of which there is no derivative."""

        class Shifted(nn.Module):
            def __init__(self):
                super().__init__()
                self.network = supernet(norm=False)
                self.shift = nn.Parameter(torch.zeros((), dtype=torch.float64))

            def forward(self, images):
                return self.network(images) + self.shift

        network = Shifted()
        optimiser, alphas = optimiser_of(network, "sgd"), architecture_parameters(network)

        def found(kept):
            return second_order(network, optimiser, alphas, kept, loss_on(HELD), ALONE)

        expected = found(lambda forward: forward(KEPT[0]).mean() + 0 * network.shift.square())
        close(found(lambda forward: forward(KEPT[0]).mean()), expected, tolerance=1e-12)
        optimiser = OPTIMISERS["sgd"].build([{"params": [network.shift]}])
        direct = torch.autograd.grad(loss_on(HELD)(lambda images: network(images) - 0.3), alphas)
        close(found(lambda forward: forward(KEPT[0]).mean()), direct, tolerance=1e-12)


class TestFirstOrder:
    def parts(self, count):
        return [tuple(t.chunk(count)[k] for t in KEPT) for k in range(count)]

    @pytest.mark.parametrize("count", [1, 2, 4])
    @pytest.mark.parametrize("group", [architecture_parameters, weight_parameters])
    def test_of_parts_it_is_that_of_the_whole(self, group, count):
        network = supernet(norm=False)
        found = first_order(lambda part: loss_on(part)(network), self.parts(count), group(network))
        expected = torch.autograd.grad(loss_on(KEPT)(network), group(network))
        close(found, expected, tolerance=1e-12)

    def test_what_no_part_uses_has_none(self):
        network, unused = supernet(), nn.Parameter(torch.zeros(2))
        alphas = architecture_parameters(network)
        found = first_order(lambda part: loss_on(part)(network), self.parts(2), [unused, *alphas])
        assert found[0] is None
        assert all(g is not None for g in found[1:])

    def test_what_one_part_uses_has_its_share(self):
        first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
        used = {0: 3 * first.sum(), 1: 5 * first.sum() + 7 * second.sum(), 2: 11 * first.sum()}
        found = first_order(lambda part: used[part], [0, 1, 2], [first, second])
        assert found[0].tolist() == pytest.approx([19 / 3] * 2)
        assert found[1].tolist() == pytest.approx([7 / 3] * 2)

    def test_a_part_that_uses_no_parameter(self):
        weight = nn.Parameter(torch.ones(2))
        values = {0: torch.tensor(5.0), 1: weight.sum()}
        (found,) = first_order(lambda part: values[part], [0, 1], [weight])
        assert found.tolist() == [0.5, 0.5]
        assert first_order(lambda part: values[0], [0, 1], [weight]) == [None]

    def test_its_terms_are_the_means_of_those_of_the_parts(self):
        weight = nn.Parameter(torch.ones(2))

        def loss(part):
            return part * weight.sum(), {"part": torch.tensor(part), "half": torch.tensor(part / 2)}

        _, terms = bilevel.first_order(loss, [1.0, 2.0, 6.0], [weight])
        assert {name: term.item() for name, term in terms.items()} == {"part": 3.0, "half": 1.5}

    def test_no_two_graphs_at_a_time(self):
        network, outputs = supernet(), []

        def loss(part):
            assert all(output() is None for output in outputs)
            output = network(part[0])
            outputs.append(weakref.ref(output))
            return output.square().mean()

        first_order(loss, self.parts(4), weight_parameters(network))
        assert len(outputs) == 4


def descending(network, parameters, **options):
    optimiser = OptimiserConfig(**{"rate": 0.5} | options).build([{"params": parameters}])
    return Descent(optimiser, RunningStatistics(network), None)


class TestDescend:
    """A step of one group leaves the other alone: its values, and its `.grad`."""

    def parts(self):
        torch.manual_seed(0)
        network = tower(residual=False, norm="none").supernet()
        return network, architecture_parameters(network), weight_parameters(network)

    @pytest.mark.parametrize("group", ["alphas", "weights"])
    def test_the_other_group_is_left_alone(self, group):
        network, alphas, weights = self.parts()
        moving, resting = (alphas, weights) if group == "alphas" else (weights, alphas)
        before = [p.detach().clone() for p in resting]
        mark = torch.ones_like(resting[0])
        resting[0].grad = mark
        old = [p.detach().clone() for p in moving]
        gradients = torch.autograd.grad(network(torch.rand(2, 3, 16, 16)).square().mean(), moving)
        descend(gradients, descending(network, moving, rate=0.01), ALONE)
        assert identical([p.detach() for p in resting], before)
        assert resting[0].grad is mark
        assert all(p.grad is None for p in resting[1:])
        assert all(p.requires_grad for p in resting)
        assert sum(not torch.equal(a, b) for a, b in zip(old, moving, strict=True)) > len(moving) // 2
        assert all(p.grad is None for p in moving)

    def test_it_goes_down_the_gradient(self):
        network, alphas, _ = self.parts()
        gradients = torch.autograd.grad(network(torch.rand(2, 3, 16, 16)).square().mean(), alphas)
        before = [alpha.detach().clone() for alpha in alphas]
        norm = descend(gradients, descending(network, alphas, name="sgd"), ALONE)
        assert norm == pytest.approx(torch.cat(gradients).norm().item(), rel=1e-4)
        for old, gradient, alpha in zip(before, gradients, alphas, strict=True):
            torch.testing.assert_close(alpha.detach(), old - 0.5 * gradient)

    @pytest.mark.parametrize("name", OPTIMISERS)
    def test_a_parameter_without_gradient_stays(self, name):
        """Neither momentum nor decay moves it."""
        network, alphas, _ = self.parts()
        descent = descending(network, alphas[:2], name=name, decay=0.1)
        both = [torch.ones_like(alpha) for alpha in alphas[:2]]
        descend(both, descent, ALONE)
        before = [alpha.detach().clone() for alpha in alphas[:2]]
        descend([both[0], None], descent, ALONE)
        assert not torch.equal(alphas[0], before[0])
        assert torch.equal(alphas[1], before[1])

    def test_it_follows_the_gradient_of_all_processes(self):
        class Among(Process):
            def average(self, gradients, parameters):
                return [None if g is None else 3 * g for g in gradients]

        network, alphas, _ = self.parts()
        before, gradient = alphas[0].detach().clone(), torch.ones_like(alphas[0])
        descent = descending(network, alphas[:1], name="sgd")
        norm = descend([gradient], descent, Among(0, 2, torch.device("cpu")))
        assert norm == pytest.approx(3 * len(gradient) ** 0.5)
        torch.testing.assert_close(alphas[0].detach(), before - 1.5)


CASES = {
    "softmax sgd": (Softmax(), "sgd"),
    "softmax adam": (Softmax(), "adam"),
    "gumbel sgd": (GDAS(), "sgd"),
    "gumbel adamw": (Gumbel(), "adamw"),
}


def gradients_of_cases(kept, held, process):
    """The gradients of both orders, averaged over the processes."""
    found = {}
    for case, (relaxation, name) in CASES.items():
        network = supernet(norm=False, relaxation=relaxation)
        optimiser, alphas = optimiser_of(network, name, steps=2), architecture_parameters(network)
        own = of_the_alphas(network, optimiser, kept, held, process)
        found[case] = process.average(own, alphas)
        weights = weight_parameters(network)
        own = first_order(lambda part: loss_on(part)(network), [kept], weights)  # noqa: B023
        found[f"{case}, weights"] = process.average(own, weights)
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes with half of the batch found."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    processes = [
        subprocess.Popen(
            python(__file__, folder),
            env=environment(RANK=str(rank), PYTHONPATH=paths, **group),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=100)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", [*CASES, *(f"{case}, weights" for case in CASES)])
def test_two_ranks_equal_one_process(ranks, case):
    expected = gradients_of_cases(KEPT, HELD, ALONE)[case]
    assert identical(ranks[0][case], ranks[1][case])
    close(ranks[0][case], expected, tolerance=1e-10)
    if case == "gumbel sgd, weights":
        assert any(g is None for g in expected)


def test_after_the_last_step_schedules_stand_at_their_end():
    from manas.searching.gradient import GradientSearch  # of which the two processes need nothing

    search = SimpleNamespace(config=SimpleNamespace(total_steps=100, seed=0, order="first"))
    search._progress = partial(GradientSearch._progress, search)
    assert GradientSearch._moment(search, 150, 0).progress == 1
    relaxation = Gumbel().at(GradientSearch._moment(search, 150, 0), choices_of(supernet()))
    assert relaxation.temperature == pytest.approx(0.1)


def main(folder: str) -> None:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    with started("cpu") as process:
        half = slice(2 * process.rank, 2 * process.rank + 2)
        kept, held = (tuple(tensor[half] for tensor in part) for part in (KEPT, HELD))
        torch.save(gradients_of_cases(kept, held, process), Path(folder) / f"{process.rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
