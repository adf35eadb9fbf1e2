"""Every method, relaxation, order and selection end to end: each runs, and moves what it says it moves."""

import copy
import itertools
import json
import shutil
from functools import partial

import pytest
import torch
from searching.plainly import plainly
from torch import nn
from training.tiny_runs import genotype_of, identical, merged, search_config, tower

import manas
from manas.architecture.choice import architecture_parameters, choices_of, weight_parameters
from manas.architecture.genotype import Genotype
from manas.architecture.recomputation import RestingBuffers
from manas.architecture.space import SearchSpace
from manas.cost.architectures import Architectures
from manas.cost.counting import measure
from manas.cost.selection import starved_nodes
from manas.data.dataset.backgrounds import Backgrounds
from manas.relaxations.base import Noiseless
from manas.relaxations.gumbel import Gumbel
from manas.relaxations.softmax import Softmax
from manas.restoration.tower import Tower
from manas.searching import gradient
from manas.searching.bilevel import second_order
from manas.searching.gradient import GradientSearch
from manas.searching.random_search import RandomSearch
from manas.searching.search_data import SearchData
from manas.training.checkpoint import load_checkpoint
from manas.training.distributed import Process
from manas.training.initialise import start

ALONE = Process(0, 1, torch.device("cpu"))
RELAXATIONS = ("softmax", "gumbel", "dirichlet", "sigmoid")
ORDERS = ("first", "second", "single")
SPACE = {"attention": {"groups": 1, "gates": ["none", "channel_attention"]}}
SHORT = {
    "space": SPACE,
    "epochs": 1,
    "steps": 2,
    "warmup": 0,
    "eigenvalue_every": 0,
    "data": {"validation_images": 1},
}
NO_CLIP = {"weights": {"clip": None}}


@pytest.fixture(autouse=True)
def _plainly():
    with plainly():
        yield


def short(path, **changes):
    """The configuration of a search that is over at once."""
    return search_config(**merged(SHORT, changes), run=str(path))


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def network_of(run):
    return load_checkpoint(run / "checkpoint.pt")["network"]


def start_of(config):
    """The supernet's state before the first step."""
    torch.manual_seed(config.seed)
    network = config.space.supernet()
    backgrounds = Backgrounds(config.data, config.data.tasks, seed=config.seed, held_share=config.alpha_share)
    start(network, backgrounds, ALONE)
    return network.state_dict()


@pytest.mark.parametrize("selection", ["argmax", "perturbation"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_every_relaxation_order_and_selection(relaxation, order, selection, tmp_path):
    selection = {"kind": selection} | ({"tune_steps": 1} if selection == "perturbation" else {})
    config = short(tmp_path, relaxation=relaxation, order=order, selection=selection, **NO_CLIP)
    found = manas.search(config)
    genotype = genotype_of(tmp_path)
    assert genotype == found
    genotype.space.check(genotype.choices)
    assert not starved_nodes(genotype.space.forks(), genotype.choices)
    assert genotype.network()(torch.zeros(1, 3, 8, 8)).isfinite().all()
    numbers = [value for line in lines(tmp_path) for value in line.values()]
    assert len(numbers) > 30
    assert None not in numbers  # what is not finite is written so
    assert all(line["steps_left_out"] == 0 for line in lines(tmp_path) if "steps_left_out" in line)
    start, end = start_of(config), network_of(tmp_path)
    assert all(tensor.isfinite().all() for tensor in end.values())
    for name, tensor in start.items():
        if name.endswith("alpha"):
            assert not torch.equal(end[name], tensor), name
    moved = [not torch.equal(end[name], start[name]) for name in start if name.endswith("weight")]
    assert sum(moved) > len(moved) / 2


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_in_bf16(relaxation, tmp_path):
    """The forward pass is in bf16, and nothing that is kept is."""
    dtypes, loss = set(), GradientSearch._alpha_step

    def watched(self, *arguments):
        forks = [choice for choice in choices_of(self.network) if "column" in choice.label]
        hooks = [
            module.register_forward_hook(lambda m, given, out: dtypes.add(out.dtype))
            for fork in forks
            for module in fork.modules()
            if isinstance(module, torch.nn.Conv2d)
        ]
        terms = loss(self, *arguments)
        for hook in hooks:
            hook.remove()
        return terms

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GradientSearch, "_alpha_step", watched)
        manas.search(short(tmp_path, relaxation=relaxation, precision="bf16"))
    assert dtypes == {torch.bfloat16}
    assert {t.dtype for t in network_of(tmp_path).values() if t.is_floating_point()} == {torch.float32}
    assert None not in [value for line in lines(tmp_path) for value in line.values()]


class TestFirstOrder:
    """No gradient of the weights in an alpha step, none of the alphas in a weight step (DESIGN)."""

    @pytest.mark.parametrize(
        "changes",
        [
            *({"relaxation": relaxation} for relaxation in RELAXATIONS),
            {"smoothing": {"kind": "adversarial", "ascents": 1}},
            {"accumulate": 2, "checkpointing": True},
            {"budget": {"macs": "1M"}, "beta_decay": 1.0},
        ],
    )
    def test_what_is_asked_for(self, changes, tmp_path, monkeypatch):
        asked, step = [], [None]
        grad = torch.autograd.grad

        def watched_grad(outputs, inputs, *arguments, **options):
            asked.append((step[0], {id(each) for each in inputs}))
            return grad(outputs, inputs, *arguments, **options)

        def marked(kind, method):
            def run(self, *arguments):
                step[0] = kind
                terms = method(self, *arguments)
                step[0] = None
                seen.append(self)
                return terms

            return run

        seen = []
        monkeypatch.setattr(torch.autograd, "grad", watched_grad)
        for kind in ("_alpha_step", "_weight_step"):
            monkeypatch.setattr(GradientSearch, kind, marked(kind, getattr(GradientSearch, kind)))
        manas.search(short(tmp_path, **changes))
        search = seen[-1]
        alphas, weights = (
            {id(p) for p in group}
            for group in (search.alpha_descent.parameters, search.weight_descent.parameters)
        )
        in_step = {
            kind: [ids for each, ids in asked if each == kind] for kind in ("_alpha_step", "_weight_step")
        }
        assert all(in_step.values())
        assert not any(ids & weights for ids in in_step["_alpha_step"])
        assert any(ids == alphas for ids in in_step["_alpha_step"])
        assert not any(ids & alphas for ids in in_step["_weight_step"])
        assert any(ids == weights for ids in in_step["_weight_step"])
        assert {kind for kind, _ in asked} == {"_alpha_step", "_weight_step"}

    def test_backward_is_not_called(self, tmp_path, monkeypatch):
        """It would fill the `.grad` of both groups."""

        def backward(*arguments, **options):
            raise AssertionError("backward was called")

        monkeypatch.setattr(torch.Tensor, "backward", backward)
        monkeypatch.setattr(torch.autograd, "backward", backward)
        manas.search(short(tmp_path, steps=1))


class TestDraws:
    """Which draw a step takes, and whether its candidates run for the alphas."""

    def moments(self, path, monkeypatch, order):
        """(draw, whether alphas learn) in the order of the steps."""
        seen, at = [], Gumbel.at

        def watched(self, moment, choices):
            seen.append((moment.draw, moment.alphas_learn))
            return at(self, moment, choices)

        monkeypatch.setattr(Gumbel, "at", watched)
        monkeypatch.setattr(GradientSearch, "_noiseless", lambda self, epoch: Noiseless(Softmax()))
        manas.search(short(path, relaxation="gumbel", order=order, **NO_CLIP))
        return seen[1:]  # the first is that of a supernet which takes no step yet

    def test_a_look_ahead_draws_as_the_weight_step_after_it(self, tmp_path, monkeypatch):
        expected = [(0, True), (0, True), (2, True), (2, True)]
        assert self.moments(tmp_path, monkeypatch, "second") == expected

    def test_in_first_order_the_weights_step_runs_for_the_weights_alone(self, tmp_path, monkeypatch):
        expected = [(1, True), (0, False), (3, True), (2, False)]
        assert self.moments(tmp_path, monkeypatch, "first") == expected

    def test_a_joint_step_runs_for_both(self, tmp_path, monkeypatch):
        assert self.moments(tmp_path, monkeypatch, "single") == [(0, True), (2, True)]


def test_the_adversary_sees_the_network_in_evaluation_mode(tmp_path, monkeypatch):
    modes = []

    def watched(network, config, moment, loss, average):
        with RestingBuffers(network):
            loss()
            modes.append({module.training for module in network.modules()})

    monkeypatch.setattr(gradient, "perturb", watched)
    manas.search(short(tmp_path, smoothing="adversarial"))
    assert modes == [{False}, {False}]


def states_of(tmp_path, one, other):
    """The networks after two searches that differ in their settings."""
    for name, changes in (("one", one), ("other", other)):
        manas.search(short(tmp_path / name, **changes))
    return network_of(tmp_path / "one"), network_of(tmp_path / "other")


class TestParts:
    """What saves memory changes nothing."""

    PLAIN = {
        "space": {"norm": "none", "residual": False},
        "weights": {"name": "sgd", "rate": 0.05, "clip": None},
        "alphas": {"name": "sgd", "rate": 1.0},
        "data": {"batch": 4},
        "steps": 3,
    }

    @pytest.mark.parametrize(("order", "relaxation"), [("first", "gumbel"), ("single", "softmax")])
    def test_accumulation(self, order, relaxation, tmp_path):
        base = self.PLAIN | {"order": order, "relaxation": relaxation}
        one, other = states_of(tmp_path, base, base | {"accumulate": 2})
        start = start_of(short(tmp_path, **base))
        apart = {name: (one[name] - other[name]).abs().max().item() for name in one}
        assert max(apart.values()) < 2e-6, max(apart, key=apart.get)
        assert max((one[name] - start[name]).abs().max().item() for name in one) > 1e-3
        logs = [
            [line for line in lines(tmp_path / name) if "weights/gradient" in line or "alphas/gradient" in line]
            for name in ("one", "other")
        ]
        for ours, expected in zip(*logs, strict=True):
            assert ours == pytest.approx(expected, rel=1e-4, abs=1e-6)

    @pytest.mark.parametrize(
        ("order", "relaxation"), [("first", "gumbel"), ("second", "gumbel"), ("single", "softmax")]
    )
    def test_checkpointing(self, order, relaxation, tmp_path):
        """With batch statistics, whose running ones must not move twice; and with the eigenvalue."""
        base = {"order": order, "relaxation": relaxation, "eigenvalue_every": 1} | NO_CLIP
        one, other = states_of(tmp_path, base, base | {"checkpointing": True})
        assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)
        ours, expected = (lines(tmp_path / name)[-1] for name in ("other", "one"))
        assert "health/eigenvalue" in ours
        assert ours == pytest.approx(expected, rel=1e-4, abs=1e-6)

    def test_checkpointing_of_the_second_order(self):
        """The exact gradient, whatever is kept in memory."""
        found = []
        for recompute in (False, True):
            torch.manual_seed(0)
            network = tower(norm="none", residual=False).supernet(recompute=recompute).double()
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter += 0.3 * torch.randn_like(parameter)
            optimiser = torch.optim.Adam(weight_parameters(network), 0.5)
            kept, held = torch.rand(2, 2, 3, 16, 16, dtype=torch.float64)
            found.append(
                second_order(
                    network,
                    optimiser,
                    architecture_parameters(network),
                    lambda forward, kept=kept: ((forward(kept) - 0.3).square().mean(), {}),
                    lambda forward, held=held: ((forward(held) - 0.3).square().mean(), {}),
                    ALONE,
                )[0]
            )
        for ours, expected in zip(found[1], found[0], strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


class TestSingleLevel:
    def test_one_pass_for_both_groups_on_kept_backgrounds(self, tmp_path, monkeypatch):
        asked, batches = [], []
        grad, single = torch.autograd.grad, GradientSearch._single_step
        current = []

        def watched_grad(outputs, inputs, *arguments, **options):
            if current:
                asked.append({id(each) for each in inputs})
            return grad(outputs, inputs, *arguments, **options)

        def watched(self, kept, step):
            current.append(self)
            batches.append(kept)
            terms = single(self, kept, step)
            both = {id(p) for p in self.network.parameters()}
            assert [ids == both for ids in asked].count(True) == len(batches)
            current.clear()
            return terms

        monkeypatch.setattr(torch.autograd, "grad", watched_grad)
        monkeypatch.setattr(GradientSearch, "_single_step", watched)
        monkeypatch.setattr(GradientSearch, "_alpha_step", None)
        manas.search(short(tmp_path, order="single", steps=3, warmup=0.34))
        assert len(batches) == 2  # the first step is of the weights alone

    def test_the_step_is_that_of_both_gradients(self, tmp_path):
        """One SGD step each, from the same point: as two first-order gradients of the same loss would make."""
        plain = TestParts.PLAIN | {"steps": 1, "architecture": 0.0, "complexity": {"weight": 0.0}}
        config = short(tmp_path / "single", order="single", **plain)
        gradients = {}
        manas.search(config)
        after, start = network_of(tmp_path / "single"), start_of(config)
        network = config.space.supernet()
        network.load_state_dict(start)
        directory = manas.training.run.RunDirectory(
            config, str(tmp_path / "x"), ALONE, resume=False, overwrite=False
        )
        method = GradientSearch(config, ALONE, directory)
        rate = config.weights.rate * config.schedule.factor(0, 1)
        loss, _ = method.objective(network.train(), next(method.data.for_weights()), 0.0)
        loss.backward()
        for name, parameter in network.named_parameters():
            step = 1.0 if name.endswith("alpha") else rate
            gradients[name] = parameter.grad
            expected = start[name] - step * (0 if parameter.grad is None else parameter.grad)
            torch.testing.assert_close(after[name], expected, rtol=1e-5, atol=1e-7)
        assert any(g is not None and g.abs().max() > 1e-4 for g in gradients.values())

    def test_a_batch_that_breaks_the_weights_moves_no_running_statistics(self, tmp_path, monkeypatch):
        first_order = gradient.first_order

        def broken(loss, parts, parameters):
            found, terms = first_order(loss, parts, parameters)
            weights = len(parameters) - 3  # the three alphas come last
            return [g * torch.nan for g in found[:weights]] + found[weights:], terms

        monkeypatch.setattr(gradient, "first_order", broken)
        config = short(tmp_path, order="single", steps=1)
        manas.search(config)
        start, end = start_of(config), network_of(tmp_path)
        assert all(torch.equal(end[name], start[name]) for name in start if name.endswith("weight"))
        assert all(torch.equal(end[name], start[name]) for name in start if "running_" in name)


class Body(Tower):
    """A fork between a convolution and a candidate with two more forks inside."""

    channels = ((4,), (4,))
    size_multiple = 1

    def __init__(self, decide):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        candidates = {"plain": partial(nn.Conv2d, 4, 4, 3, padding=1), "deep": partial(Deep, decide)}
        self.body, self.then = decide("body", candidates), decide("then", {"a": nn.Tanh, "b": nn.Sigmoid})

    def stem(self, image):
        return [self.first(image)]

    def stages(self):
        return [lambda features, image: [self.then(self.body(features[0]))]]

    def head(self, features, image):
        return image + self.last(features[0])


class Deep(nn.Module):
    def __init__(self, decide):
        super().__init__()
        self.nodes = nn.ModuleList(
            decide(
                f"body/node0/{side}",
                {"none": Nothing, "conv": partial(nn.Conv2d, 4, 4, 3, padding=1)},
                node="body/node0",
                zero="none",
            )
            for side in ("input", "side")
        )

    def forward(self, x):
        return sum(node(x) for node in self.nodes)


class Nothing(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


class Nested(SearchSpace):
    """Architectures of four forks, of which two are reached by some."""

    def build(self, decide):
        return Body(decide)


class TestNested:
    """Forks inside candidates, which a sampled path may not reach."""

    @pytest.mark.parametrize(
        "changes",
        [
            *({"relaxation": relaxation} for relaxation in RELAXATIONS),
            *({"relaxation": "gumbel", "order": order} for order in ("second", "single")),
            {"relaxation": "gumbel", "checkpointing": True, "accumulate": 2},
            {"selection": "perturbation", "relaxation": "gumbel"},
            {"smoothing": {"kind": "adversarial", "ascents": 1}},
            {"budget": {"parameters": 400}},
            {"budget": {"parameters": 400}, "selection": "perturbation"},
            {"method": {"kind": "evolution", "evaluations": 9, "population": 4, "tournament": 2}},
            {"method": {"kind": "random", "candidates": 3}},
            {"method": "surrogate", "epochs": 6},
            {"method": {"kind": "surrogate", "drawn": 0.5}, "epochs": 4, "budget": {"parameters": 400}},
        ],
    )
    def test_it_is_searched(self, changes, tmp_path):
        base = {name: given for name, given in SHORT.items() if name not in ("space", "warmup")}
        base |= {"warmup": 0} if "method" not in changes else {}
        config = search_config(**merged(base, NO_CLIP | changes), run=str(tmp_path))
        genotype = manas.search(config.model_copy(update={"space": Nested()}))
        Nested().check(genotype.choices)
        assert not starved_nodes(genotype.space.forks(), genotype.choices)
        assert ("body/node0/side" in genotype.choices) == (genotype.choices["body"] == "deep")
        assert None not in [value for line in lines(tmp_path) for value in line.values()]
        if "budget" in changes:
            assert genotype.provenance["parameters"] <= 400
        assert Genotype.read(tmp_path / "genotype.json", space=Nested) == genotype


class TestStop:
    """Rules that end a search early, through the whole loop."""

    @pytest.fixture
    def told(self, monkeypatch):
        """What validation and selection say by epoch: (PSNR of the one-hot network, choices)."""
        story = []

        def psnr(self, network, *, training):
            return story[min(told["epoch"], len(story) - 1)][0]

        def argmax(self, probabilities):
            return story[min(told["epoch"], len(story) - 1)][1]

        def next_epoch(self, epoch, tracker):
            told["epoch"] = epoch
            return judge(self, epoch, tracker)

        told = {"epoch": 0, "story": story}
        judge = GradientSearch.judge
        monkeypatch.setattr(GradientSearch, "judge", next_epoch)
        monkeypatch.setattr(GradientSearch, "_eigenvalue", lambda self, epoch: None)
        monkeypatch.setattr(SearchData, "psnr", psnr)
        monkeypatch.setattr(Architectures, "argmax", argmax)
        return story

    SKIPS = {"attention": {"groups": 1, "gates": ["skip_connect", "channel_attention"]}}
    SETTINGS = {"space": SKIPS, "epochs": 6, "steps": 1, "eigenvalue_every": 1}

    def choices(self, *gates):
        return dict(zip(tower(**self.SKIPS).choices(), ("fusion", *gates), strict=True))

    def run(self, path, **stop):
        """The genotype, and the epochs that were searched."""
        config = short(path, **self.SETTINGS, stop=stop)
        genotype = manas.search(config)
        epochs = sorted(int(file.stem[-4:]) for file in (path / "genotypes").iterdir())
        assert epochs == list(range(len(epochs)))
        assert load_checkpoint(path / "checkpoint.pt")["step"] == len(epochs)
        assert genotype == genotype_of(path)
        return genotype, len(epochs)

    def test_patience(self, told, tmp_path):
        a, b = (
            self.choices("skip_connect", "channel_attention"),
            self.choices("channel_attention", "skip_connect"),
        )
        told += [(20.0, b), (22.5, a), (21.0, b), (22.5, b), (30.0, b)]
        genotype, epochs = self.run(tmp_path, patience=2)
        assert epochs == 4
        assert genotype.choices == a
        assert genotype.provenance["epoch"] == 1
        assert genotype.provenance["psnr_one_hot"] == 22.5
        first = genotype.provenance["verdict"][0]
        assert first == "stopped early: the one-hot PSNR has not been better than 22.50 dB for 2 epochs"
        self.assert_resuming_does_nothing(tmp_path, patience=2)

    def assert_resuming_does_nothing(self, path, **stop):
        files = {p: p.read_bytes() for p in path.rglob("*") if p.is_file() and self.is_kept(p)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(GradientSearch, "step", None)
            patch.setattr(GradientSearch, "judge", None)
            again = manas.search(short(path, **self.SETTINGS, stop=stop), resume=True)
        assert again == genotype_of(path)
        assert files == {p: p.read_bytes() for p in path.rglob("*") if p.is_file() and self.is_kept(p)}

    def is_kept(self, path):
        return path.parent.name != "tensorboard" and path.name not in ("environment.json", "report.html")

    def test_skip_share(self, told, tmp_path):
        good, bad = (
            self.choices("skip_connect", "channel_attention"),
            self.choices("skip_connect", "skip_connect"),
        )
        told += [(20.0, good), (21.0, good), (22.0, bad), (23.0, bad)]
        genotype, epochs = self.run(tmp_path, skip_share=0.75)
        assert epochs == 3
        assert genotype.choices == good
        assert genotype.provenance["epoch"] == 1
        first = genotype.provenance["verdict"][0]
        assert first == "stopped early: 2 of 2 forks chose skip connections; the limit is 75%"
        self.assert_resuming_does_nothing(tmp_path, skip_share=0.75)

    def test_growth_of_the_eigenvalue(self, told, tmp_path, monkeypatch):
        values = [0.1, 0.1, 0.11, 0.2, 0.3, 0.4]
        monkeypatch.setattr(GradientSearch, "_eigenvalue", lambda self, epoch: values[epoch])
        by_epoch = [
            self.choices(gate, "channel_attention") for gate in ("skip_connect", "channel_attention")
        ] * 3
        told += [(20.0 + n, choices) for n, choices in enumerate(by_epoch)]
        stop = {"eigenvalue_growth": 1.5, "eigenvalue_window": 1, "eigenvalue_lag": 2}
        stop |= {"eigenvalue_rule": "published"}
        genotype, epochs = self.run(tmp_path, **stop)
        assert epochs == 4
        assert genotype.provenance["epoch"] == 1
        assert genotype.choices == by_epoch[1]
        assert (
            "stopped early: the eigenvalue of the alphas grew from 0.1 to 0.2"
            in genotype.provenance["verdict"][0]
        )
        self.assert_resuming_does_nothing(tmp_path, **stop)

    def test_without_a_rule_it_goes_on(self, told, tmp_path):
        told += [(20.0 - n, self.choices("skip_connect", "skip_connect")) for n in range(6)]
        genotype, epochs = self.run(tmp_path)
        assert epochs == 6
        assert genotype.provenance["epoch"] == 5
        assert not any("stopped early" in sentence for sentence in genotype.provenance["verdict"])

    def test_an_interruption_between_the_stop_and_the_genotype(self, told, tmp_path, monkeypatch):
        a, b = (
            self.choices("skip_connect", "channel_attention"),
            self.choices("channel_attention", "skip_connect"),
        )
        told += [(20.0, a), (19.0, b), (18.0, b)]

        def broken(self, progress):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(GradientSearch, "finish", broken)
            with pytest.raises(KeyboardInterrupt):
                self.run(tmp_path, patience=1)
        assert not (tmp_path / "genotype.json").exists()
        config = short(tmp_path, **self.SETTINGS, stop={"patience": 1})
        monkeypatch.setattr(GradientSearch, "step", None)
        genotype = manas.search(config, resume=True)
        assert genotype.choices == a
        assert genotype.provenance["verdict"][0].startswith("stopped early: ")


class TestRandom:
    """Random search: as much compute, shared out evenly, and the best by validation."""

    GATES = ("none", "skip_connect", "sep_conv_3x3", "channel_attention")
    CHANGES = {
        "space": {"attention": {"gates": list(GATES)}},
        "method": {"kind": "random", "candidates": 3},
        "warmup": 0.5,
        "epochs": 2,
        "steps": 40,
    }

    def config(self, path, **changes):
        return short(path, **merged(self.CHANGES, changes))


@pytest.fixture(scope="module")
def random_run(tmp_path_factory):
    """The run directory of a random search, and of each candidate: its network, rates and batches."""
    path, candidates = tmp_path_factory.mktemp("random") / "run", []
    step = RandomSearch.weight_step

    def watched(self, network, descent, batch, done):
        if done == 0:
            start = {name: p.detach().clone() for name, p in network.named_parameters()}
            candidates.append({"network": network, "start": start, "rates": [], "batches": [], "steps": 0})
        terms = step(self, network, descent, batch, done)
        candidates[-1]["steps"] += 1
        candidates[-1]["rates"].append(descent.optimiser.param_groups[0]["lr"])
        candidates[-1]["batches"].append(batch)
        return terms

    with plainly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(RandomSearch, "weight_step", watched)
        manas.search(TestRandom().config(path))
    return path, candidates


class TestRandomSearch(TestRandom):
    def test_the_compute_is_that_of_the_search_by_gradient(self, random_run, tmp_path):
        """Both are counted as they run; a step is the grain of each candidate's share."""
        path, candidates = random_run
        spent = genotype_of(path).provenance["compute"]
        by_gradient = merged({k: v for k, v in self.CHANGES.items() if k != "method"}, {"epochs": 2})
        whole = manas.search(short(tmp_path, **by_gradient)).provenance["compute"]
        steps = [3 * 4 * measure(each["network"], "macs", (3, 16, 16)) for each in candidates]
        assert len(candidates) == 3
        assert abs(spent - whole) <= sum(steps) / 2 + 0.02 * whole  # the derived networks differ
        assert spent > 0.9 * whole
        assert len({each["steps"] for each in candidates}) > 1  # the smaller one has more

    def test_the_shares_are_equal(self, random_run):
        _, candidates = random_run
        costs = [measure(each["network"], "macs", (3, 16, 16)) for each in candidates]
        images = 256 + 2  # of the statistics and of the validation: one pass each; a step has four images
        shares = [(images + 3 * 4 * each["steps"]) * cost for each, cost in zip(candidates, costs, strict=True)]
        assert max(shares) - min(shares) <= 3 * 4 * max(costs)

    def test_a_share_is_one_step_at_least(self, tmp_path):
        manas.search(self.config(tmp_path, epochs=1, steps=1, warmup=0.25, method={"candidates": 5}))
        assert max(line["step"] for line in lines(tmp_path)) == 5

    def test_all_begin_alike_and_see_the_same(self, random_run):
        _, candidates = random_run
        firsts = [[batch.clean for batch in each["batches"][:3]] for each in candidates]
        assert all(identical(first, firsts[0]) for first in firsts)
        stems = [list(each["start"].values())[:6] for each in candidates]  # built before any fork
        assert all(identical(stem, stems[0]) for stem in stems)

    def test_each_has_the_whole_schedule(self, random_run):
        _, candidates = random_run
        for each in candidates:
            assert each["rates"][-1] < 0.3 * max(each["rates"])

    def test_the_best_by_validation_is_the_genotype(self, random_run):
        path, candidates = random_run
        files = sorted((path / "genotypes").iterdir())
        assert [file.name for file in files] == [f"candidate_000{n}.json" for n in range(3)]
        found = [Genotype.read(file) for file in files]
        for n, (genotype, each) in enumerate(zip(found, candidates, strict=True)):
            assert genotype.provenance["candidate"] == n
            assert genotype.provenance["parameters"] == measure(each["network"], "parameters")
            assert not starved_nodes(genotype.space.forks(), genotype.choices)
            genotype.space.check(genotype.choices)
        scores = [genotype.provenance["psnr"] for genotype in found]
        best = found[scores.index(max(scores))]
        genotype = genotype_of(path)
        assert genotype.choices == best.choices
        (verdict,) = genotype.provenance["verdict"]
        assert (
            verdict
            == f"the best of 3 random architectures, which reach {min(scores):.2f} to {max(scores):.2f} dB"
        )
        compute = {name: genotype.provenance[name] for name in ("compute", "compute_judging")}
        assert genotype.provenance == {**best.provenance, "verdict": [verdict], **compute}
        assert load_checkpoint(path / "checkpoint.pt")["scores"] == scores
        assert load_checkpoint(path / "checkpoint.pt")["choices"] == best.choices

    def test_the_score_is_of_the_trained_network(self, random_run):
        path, candidates = random_run
        config = self.config(path)
        data = SearchData(config, ALONE)
        scores = load_checkpoint(path / "checkpoint.pt")["scores"]
        for each, score in zip(candidates, scores, strict=True):
            assert data.psnr(each["network"], training=False) == pytest.approx(score, abs=1e-4)

    def test_what_the_running_statistics_were_has_no_say(self, random_run):
        """A network that was trained alone is judged by statistics of its weights, not of earlier ones."""
        path, candidates = random_run
        data, scores = SearchData(self.config(path), ALONE), load_checkpoint(path / "checkpoint.pt")["scores"]
        for each, score in zip(candidates, scores, strict=True):
            network = copy.deepcopy(each["network"])
            norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
            assert norms
            for norm in norms:
                norm.running_mean.fill_(7.0)
            assert data.psnr(network, training=False) != pytest.approx(score, abs=1e-2)
            assert data.psnr_alone(network) == pytest.approx(score, abs=1e-4)

    def test_the_statistics_are_the_means_over_training_batches(self, random_run):
        """By hand: the mean over 64 batches of four images, at the first normalisation."""
        path, candidates = random_run
        network = candidates[0]["network"].train()
        norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
        found, means = norm.running_mean.clone(), []
        norm.register_forward_pre_hook(lambda _, inputs: means.append(inputs[0].mean((0, 2, 3))))
        batches = SearchData(self.config(path), ALONE).for_weights()
        with torch.no_grad(), RestingBuffers(network):
            for batch in itertools.islice(batches, 64):
                network(batch.degraded.flatten(0, 1))
        torch.testing.assert_close(found, torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)

    def test_its_metrics(self, random_run):
        path, candidates = random_run
        total = sum(each["steps"] for each in candidates)
        steps = [line["step"] for line in lines(path) if "weights/gradient" in line]
        assert steps == list(range(1, total + 1))
        ends = [line["step"] for line in lines(path) if "validation/psnr_of_a_candidate" in line]
        assert ends == list(itertools.accumulate(each["steps"] for each in candidates))

    def test_the_seed_draws_the_architectures(self, random_run, tmp_path):
        path, _ = random_run
        manas.search(self.config(tmp_path, seed=1, epochs=1, steps=1, method={"candidates": 3}))
        ours, theirs = (
            [Genotype.read(file).choices for file in sorted((p / "genotypes").iterdir())]
            for p in (tmp_path, path)
        )
        assert ours != theirs

    def test_a_run_with_other_shares_goes_on_with_those_of_today(self, random_run, tmp_path):
        """As earlier versions gave, which counted no compute."""
        path, candidates = random_run
        shutil.copytree(path, tmp_path / "run")
        state = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
        state |= {"scores": state["scores"][:1], "epochs": 1, "step": 7}
        del state["compute"]
        torch.save(state, tmp_path / "run" / "checkpoint.pt")
        (tmp_path / "run" / "config.yaml").write_text(
            (path / "config.yaml").read_text().replace(str(path), str(tmp_path / "run"))
        )
        genotype = manas.search(self.config(tmp_path / "run"), resume=True)
        later = sum(each["steps"] for each in candidates[1:])
        after = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
        assert after["step"] == 7 + later
        assert after["scores"] == load_checkpoint(path / "checkpoint.pt")["scores"]
        assert "compute" not in genotype.provenance

    def test_a_candidate_whose_score_is_not_a_number_is_not_the_best(self, tmp_path, monkeypatch):
        scores = iter([float("nan"), 20.0, 21.0])
        monkeypatch.setattr(SearchData, "psnr", lambda self, network, *, training: next(scores))
        genotype = manas.search(self.config(tmp_path, epochs=1, steps=1))
        assert genotype.provenance["candidate"] == 2
