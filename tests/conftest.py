"""What the tests share: few threads, one seed, and the smallest spaces that have every part of a large one."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import settings
from torch import nn

from manas.architecture.finding import load_space
from manas.architecture.genotype import Genotype
from manas.commands import main as cli
from manas.restoration.network import RestorationSpace
from search_spaces.multi_scale_attentive.tower import AttentionOptions, MultiScaleAttentive, StemOptions

torch.set_num_threads(min(2, torch.get_num_threads()))

settings.register_profile("tests", max_examples=40, deadline=None, database=None, derandomize=True)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Nothing is remembered from earlier runs, nor written where the user's programs would find it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def one_thread():
    """As in the programs that are started: sums in another order are other bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(capsys):
    """A function from arguments of `manas` to exit code, standard output and standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main([*map(str, arguments)])
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def fails(run):
    """A function that expects exit code 2 and one line with all `parts`."""

    def fails(*arguments, says):
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), err
        assert err.startswith("manas: ")
        assert len(err.splitlines()) == 1, err
        for part in says:
            assert part in err, f"{part!r} is not said: {err}"

    return fails


@pytest.fixture(scope="session")
def randomised() -> Callable[[nn.Module], nn.Module]:
    """A function that gives a network random weights, running statistics and clearly different alphas.

    No two of its parts then agree by accident, and nothing that starts at zero hides what is before it.
    """
    return _randomise


def _randomise(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and not name.endswith("identity"):
                inputs = tensor[0].numel() if tensor.ndim > 1 else 1
                tensor.normal_(std=inputs**-0.5)
    return network


@pytest.fixture(scope="session")
def small_tower() -> MultiScaleAttentive:
    """Three scales, two stages, seven forks; images in multiples of four."""
    return MultiScaleAttentive(
        channels=(8, 12, 16),
        columns=(1, 1),
        stem=StemOptions(blocks=1, planes=4, expansion=2),
        attention=AttentionOptions(groups=1, gates=("none", "sep_conv_3x3", "channel_attention", "cbam")),
    )


@pytest.fixture(scope="session")
def small_shuffled(small_tower) -> MultiScaleAttentive:
    """The small tower on the image unshuffled by two, 12 channels through 4 planes; multiples of eight."""
    stem = {"blocks": 1, "planes": 4, "expansion": 4}
    return load_space(small_tower.model_dump() | {"stem": stem, "shuffle": 2})


@pytest.fixture(scope="session")
def small_network(small_tower) -> RestorationSpace:
    """Two small towers, stitched by layer and fused by a mask."""
    return RestorationSpace(towers={"derain": small_tower, "desnow": small_tower})


@pytest.fixture(scope="session")
def small_genotype(small_network) -> Genotype:
    """Of `small_network`, with another architecture for each task."""
    genotype = Genotype.sample(small_network, seed=3)
    derain, desnow = (
        [name for label, name in genotype.choices.items() if label.startswith(task)]
        for task in ("derain/", "desnow/")
    )
    assert derain != desnow
    return genotype
