"""Regularised evolution: who lives, who has children, who is returned; and the paths that it draws."""

import random
from collections import Counter

import pytest
import torch
from architecture.toy_spaces import NESTED, Block, Tree, architectures, trees
from hypothesis import given, settings
from hypothesis import strategies as st
from searching.plainly import plainly
from training.tiny_runs import genotype_of, search_config, tower

import manas
from manas.architecture.choice import architecture_parameters, choices_of
from manas.architecture.forks import every_fork, random_choices
from manas.architecture.genotype import Genotype
from manas.architecture.weighting import OneHot
from manas.config import read_config
from manas.cost.selection import starved_nodes
from manas.errors import ManasError
from manas.searching.config import SearchConfig
from manas.searching.evolution import EvolutionConfig, evolve, mutated
from manas.searching.evolution_search import EvolutionSearch
from manas.searching.search_data import SearchData
from manas.training.checkpoint import load_checkpoint
from manas.training.distributed import Process
from manas.training.from_run import genotype_from

FORKED = trees(60).filter(lambda space: space.root.forks)


class TestDrawn:
    @settings(max_examples=40)
    @given(space=st.one_of(st.just(NESTED), trees(60)), seed=st.integers(0, 10**6))
    def test_it_is_a_path(self, space, seed):
        space.check(random_choices(space.forks(), random.Random(seed)))

    @settings(max_examples=30)
    @given(space=FORKED, seed=st.integers(0, 10**6))
    def test_what_is_given_is_kept(self, space, seed):
        rng = random.Random(seed)
        given = rng.choice(list(architectures(space.root)))
        assert random_choices(space.forks(), rng, given) == given
        part = {label: name for label, name in given.items() if rng.random() < 0.5}
        path = random_choices(space.forks(), rng, part)
        space.check(path)
        assert all(path[label] == name for label, name in part.items() if label in path)

    def test_every_reached_fork_is_uniform(self):
        """Each candidate equally often, given that its fork is on the path."""
        rng, seen, forks = random.Random(0), Counter(), NESTED.forks()
        for _ in range(6000):
            seen.update(random_choices(forks, rng).items())
        for fork in every_fork(forks):
            counts = [seen[fork.label, name] for name in fork.names]
            for count in counts:
                share, expected = count / sum(counts), 1 / len(fork.names)
                assert abs(share - expected) < 5 * (expected * (1 - expected) / sum(counts)) ** 0.5


class TestMutated:
    @settings(max_examples=60)
    @given(space=FORKED, seed=st.integers(0, 10**6))
    def test_one_reached_fork_changes_and_the_rest_follows(self, space, seed):
        rng = random.Random(seed)
        parent = random_choices(space.forks(), rng)
        child = mutated(space.forks(), parent, rng)
        space.check(child)
        changed = [label for label in parent if label in child and child[label] != parent[label]]
        if any(len(names) > 1 for label, names in space.choices().items() if label in parent):
            assert len(changed) == 1
        else:
            assert child == parent
        for label in set(parent) ^ set(child):  # came or went with the candidate that changed
            assert label.startswith(changed[0] + "/")

    def test_every_reached_fork_and_every_other_candidate_has_its_turn(self):
        parent = {
            "fork0": "c1",
            "fork0/c1/fork0": "c0",
            "fork0/c1/fork1": "c1",
            "fork0/c1/fork1/c1/fork0": "c0",
            "fork1": "c2",
        }
        NESTED.check(parent)
        rng, seen, forks = random.Random(0), Counter(), NESTED.forks()
        for _ in range(1500):
            child = mutated(forks, parent, rng)
            (label,) = [label for label in parent if label in child and child[label] != parent[label]]
            seen[label, child[label]] += 1
        by_label = Counter()
        for (label, _), count in seen.items():
            by_label[label] += count
        assert by_label.keys() == parent.keys()
        assert all(abs(count - 300) < 80 for count in by_label.values())
        assert abs(seen["fork1", "c0"] - seen["fork1", "c1"]) < 80

    def test_the_parent_is_not_written_to(self):
        rng = random.Random(0)
        parent = random_choices(NESTED.forks(), rng)
        before = dict(parent)
        for _ in range(20):
            mutated(NESTED.forks(), parent, rng)
        assert parent == before

    def test_where_nothing_can_change_it_is_the_same(self):
        space = Tree(root=Block(forks=((Block(),),)))
        assert mutated(space.forks(), {"fork0": "c0"}, random.Random(0)) == {"fork0": "c0"}


class Family:
    """Numbered individuals; remembers who was a parent when."""

    def __init__(self, scores):
        self.scores = scores
        self.born = 0
        self.parents = {}

    def sample(self, rng):
        self.born += 1
        return {"number": str(self.born - 1)}

    def mutate(self, parent, rng):
        self.parents[self.born] = int(parent["number"])
        return self.sample(rng)

    def score(self, choices):
        return self.scores(int(choices["number"]))

    def evolve(self, seed=0, **config):
        return evolve(EvolutionConfig(**config), self.sample, self.mutate, self.score, seed=seed)


class TestEvolve:
    SPACE = tower(attention={"groups": 1, "gates": ["none", "skip_connect", "cbam"]})

    def known(self, seed=0, evaluations=120, **config):
        """Evolution where the score counts the places that agree with a target; all that were scored."""
        target = Genotype.sample(self.SPACE, 4).choices
        scored = []

        def score(choices):
            scored.append(dict(choices))
            return float(sum(choices.get(label) == name for label, name in target.items()))

        forks = self.SPACE.forks()
        best = evolve(
            EvolutionConfig(evaluations=evaluations, population=10, tournament=4, **config),
            lambda rng: random_choices(forks, rng),
            lambda choices, rng: mutated(forks, choices, rng),
            score,
            seed=seed,
        )
        return target, best, scored

    def test_it_finds_the_optimum(self):
        for seed in range(3):
            target, best, _ = self.known(seed)
            assert best.choices == target
            assert best.score == len(target)

    def test_it_finds_what_few_of_many_are(self):
        """1 of 3^9: by lot it would take some ten thousand draws."""
        space = Tree(root=Block(forks=((Block(),) * 3,) * 9))
        target, forks = Genotype.sample(space, 1).choices, space.forks()
        best = evolve(
            EvolutionConfig(evaluations=400, population=20, tournament=8),
            lambda rng: random_choices(forks, rng),
            lambda choices, rng: mutated(forks, choices, rng),
            lambda choices: float(sum(choices[label] == name for label, name in target.items())),
            seed=0,
        )
        assert best.choices == target

    def test_it_is_a_function_of_the_seed(self):
        runs = [self.known(seed, evaluations=30) for seed in (1, 1, 2)]
        assert runs[0] == runs[1]
        assert runs[0][2] != runs[2][2]

    def test_so_many_are_scored_and_the_first_are_drawn(self):
        family = Family(lambda number: 0.0)
        family.evolve(evaluations=17, population=6, tournament=2)
        assert family.born == 17
        assert sorted(family.parents) == list(range(6, 17))

    def test_the_oldest_dies(self):
        """The first is by far the best: it is the parent of all while it lives, and of none later."""
        family = Family(lambda number: -float(number))
        best = family.evolve(evaluations=30, population=5, tournament=5)
        assert family.parents == {child: child - 5 for child in range(5, 30)}
        assert best.choices == {"number": "0"}  # the best that ever lived, not that is alive
        assert best.score == 0

    def test_the_best_may_be_the_last(self):
        family = Family(float)
        assert family.evolve(evaluations=9, population=3, tournament=1).choices == {"number": "8"}

    def test_the_parent_is_the_best_of_a_tournament(self):
        """Of two of five; so the worst alive never has a child, and others than the best do."""
        rng = random.Random(0)
        values = [rng.random() for _ in range(200)]
        family = Family(values.__getitem__)
        family.evolve(evaluations=200, population=5, tournament=2)
        ranks = Counter()
        for child, parent in family.parents.items():
            alive = sorted(range(child - 5, child), key=values.__getitem__)
            ranks[alive.index(parent)] += 1
        assert ranks[0] == 0
        assert ranks[4] > ranks[3] > ranks[2] > ranks[1] > 0

    def test_a_population_of_one(self):
        family = Family(float)
        family.evolve(evaluations=4, population=1, tournament=1)
        assert family.parents == {1: 0, 2: 1, 3: 2}

    def test_a_score_that_is_not_a_number_is_not_the_best(self):
        family = Family(lambda number: float("nan") if number == 0 else float(number))
        assert family.evolve(evaluations=5, population=2, tournament=1).choices == {"number": "4"}

    @pytest.mark.parametrize("sizes", [(3, 5, 2), (5, 3, 4), (0, 0, 0), (5, 2, 0)])
    def test_sizes_that_cannot_be(self, sizes):
        evaluations, population, tournament = sizes
        method = {"kind": "evolution", "evaluations": evaluations, "population": population}
        with pytest.raises(ManasError) as error:
            read_config(SearchConfig, {"method": method | {"tournament": tournament}})
        assert "method." in str(error.value) or "tournament" in str(error.value)


SPACE = {"attention": {"groups": 1, "gates": ["none", "skip_connect", "channel_attention"]}}
PARTS = 2  # of the batch of two backgrounds, which three paths do not divide
METHOD = {"kind": "evolution", "paths": 3, "evaluations": 9, "population": 4, "tournament": 2}


def config_of(path):
    return search_config(run=str(path), epochs=2, steps=3, space=SPACE, method=METHOD)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run directory, the relaxations that were trained, and the paths that were scored with scores."""
    path = tmp_path_factory.mktemp("evolved") / "run"
    trained, scored = [], []
    step, score = EvolutionSearch.step_along, EvolutionSearch._score

    def watched_step(self, network, loss, parts, descent):
        def watched(part):
            value = loss(part)
            trained.append([choice.relaxation for choice in choices_of(network)])
            return value

        return step(self, network, watched, parts, descent)

    def watched_score(self, choices):
        scored.append((dict(choices), score(self, choices)))
        return scored[-1][1]

    with plainly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(EvolutionSearch, "step_along", watched_step)
        patch.setattr(EvolutionSearch, "_score", watched_score)
        manas.search(config_of(path))
    return path, trained, scored


class TestSearch:
    """Evolution over the weights of a supernet that is trained on paths."""

    def test_every_part_of_a_batch_trains_a_path_of_its_own(self, run):
        _, trained, _ = run
        assert len(trained) == 6 * PARTS
        assert all(isinstance(relaxation, OneHot) for step in trained for relaxation in step)
        paths = [step[0].choices for step in trained]
        assert len({tuple(path.items()) for path in paths}) > 4
        for path in paths:
            tower(**SPACE).check(path)
            assert not starved_nodes(tower(**SPACE).forks(), path)

    def test_the_best_of_all_is_the_genotype(self, run):
        path, _, scored = run
        lived = scored[2:]  # each of two epochs looked at one path, the same
        assert scored[0][0] == scored[1][0]
        assert len(lived) == 9
        genotype = genotype_of(path)
        best = max(score for _, score in lived)
        assert (genotype.choices, best) in lived
        assert genotype.provenance["psnr_one_hot"] == best
        assert genotype.provenance["evaluations"] == 9
        assert genotype.provenance["method"] == "evolution"
        assert not any(starved_nodes(genotype.space.forks(), choices) for choices, _ in lived)

    def test_what_it_says(self, run):
        path, _, scored = run
        first, best = (max(score for _, score in lived) for lived in (scored[2:6], scored[2:]))
        (verdict,) = genotype_of(path).provenance["verdict"]
        assert verdict == f"evolution raised the best one-hot PSNR from {first:.2f} to {best:.2f} dB"

    def test_the_score_is_of_the_derived_network_in_the_weights_of_the_supernet(self, run):
        path, _, scored = run
        config, alone = config_of(path), Process(0, 1, torch.device("cpu"))
        supernet = config.space.supernet()
        supernet.load_state_dict(load_checkpoint(path / "checkpoint.pt")["network"])
        data = SearchData(config, alone)
        for choices, expected in scored[-3:]:
            network = config.space.inherit(supernet, choices)
            assert data.psnr(network, training=True) == pytest.approx(expected, abs=1e-3)

    def test_the_alphas_stay_where_they_are(self, run):
        path, _, _ = run
        torch.manual_seed(0)
        supernet = tower(**SPACE).supernet()
        start = [alpha.detach().clone() for alpha in architecture_parameters(supernet)]
        supernet.load_state_dict(load_checkpoint(path / "checkpoint.pt")["network"])
        assert all(torch.equal(a, b) for a, b in zip(start, architecture_parameters(supernet), strict=True))

    def test_a_checkpoint_before_the_choice_has_no_genotype(self, run, tmp_path):
        (tmp_path / "checkpoint.pt").write_bytes((run[0] / "checkpoint.pt").read_bytes())
        with pytest.raises(ManasError, match="this search has not chosen yet; go on with --resume"):
            genotype_from(tmp_path)

    def test_the_seed_decides(self, run, tmp_path):
        path, _, _ = run
        with plainly():
            manas.search(config_of(tmp_path))
        assert genotype_of(tmp_path).choices == genotype_of(path).choices
        ours, theirs = (load_checkpoint(p / "checkpoint.pt")["network"] for p in (tmp_path, path))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
