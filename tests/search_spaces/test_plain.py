"""The plain baseline against the same network written with torch's functions, and all that a tower is for."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn
from training.tiny_runs import RAIN, SNOW, retrain_config, search_config

import manas
from manas.architecture.finding import load_space
from manas.architecture.genotype import Genotype
from manas.cost.counting import measure, thop_macs
from manas.errors import ManasError
from manas.exporting.onnx import export_onnx
from manas.exporting.program import export_program
from manas.inference.optimised import optimised
from manas.inference.receptive import receptive_radius
from manas.inference.restorer import Restorer
from manas.restoration.model_file import ModelDescription, read_description, save_model
from manas.restoration.network import RestorationSpace
from search_spaces.frontier import Frontier
from search_spaces.plain import Plain

SPACES = [Plain(width=8, blocks=2, shuffle=shuffle) for shuffle in (1, 2, 4)]
TASKS = ("derain", "desnow")


def two(tower, **options):
    """The space of two such towers, stitched and fused."""
    return RestorationSpace(towers=dict.fromkeys(TASKS, tower), **options)


def unshuffled(image, side):
    """(B, 3, H, W) -> (B, 3 side^2, H/side, W/side); the pixels of a square become channels, row by row."""
    batch, channels, height, width = image.shape
    squares = image.reshape(batch, channels, height // side, side, width // side, side)
    return squares.permute(0, 1, 3, 5, 2, 4).reshape(batch, -1, height // side, width // side)


def shuffled(x, side):
    """The inverse of `unshuffled`."""
    batch, _, height, width = x.shape
    squares = x.reshape(batch, 3, side, side, height, width).permute(0, 1, 4, 2, 5, 3)
    return squares.reshape(batch, 3, height * side, width * side)


def normalised(norm, x, weights, running):
    """By the statistics of training, of a batch or of a pixel; `weights` gives the scale and the shift."""
    if norm == "batch":
        return F.batch_norm(x, next(running), next(running), next(weights), next(weights))
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    scale, shift = (next(weights)[:, None, None] for _ in range(2))
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def restored(space, tower, image):
    """The image that the tower restores, by torch's functions on its parameters in their order."""
    weights = tower.parameters()
    running = (buffer for buffer in tower.buffers() if buffer.is_floating_point())

    def convolved(x, *, plain=True):
        if plain or space.norm == "none":
            return F.conv2d(x, next(weights), next(weights), padding=1)
        return normalised(space.norm, F.conv2d(x, next(weights), padding=1), weights, running)

    x = convolved(unshuffled(image, space.shuffle))
    for _ in range(space.blocks):
        x = x + convolved(convolved(x, plain=False).relu(), plain=False)
    return image + shuffled(convolved(x), space.shuffle)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("shuffle", [1, 2, 4])
def test_it_equals_the_network_written_by_functions(shuffle, norm, randomised):
    space = Plain(width=8, blocks=3, shuffle=shuffle, norm=norm)
    tower = randomised(space.network()).double().eval()
    image = torch.rand(2, 3, 8, 12, dtype=torch.float64)
    with torch.no_grad():
        ours, theirs = tower(image), restored(space, tower, image)
    assert (ours - image).abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_with_attention_it_is_a_chain_of_the_frontier(randomised):
    tower = randomised(Plain(width=8, blocks=3, attention=True).network()).double().eval()
    choices = {}
    for stage in ("stage0", "stage1", "stage2"):
        choices |= {f"{stage}/full": "blocks", f"{stage}/half": "none", f"{stage}/quarter": "none"}
        choices |= {f"{stage}/full/kind": "residual", f"{stage}/full/residual/expansion": "same"}
        choices |= {f"{stage}/full/residual/same/second": "none", f"{stage}/gate": "channel_attention"}
    chain = Frontier(stages=3, width=8).network(choices).double().eval()
    with torch.no_grad():
        for ours, theirs in zip(tower.parameters(), chain.parameters(), strict=True):
            theirs.copy_(ours)
        image = torch.rand(2, 3, 16, 24, dtype=torch.float64)
        torch.testing.assert_close(tower(image), chain(image), rtol=1e-10, atol=1e-10)
        without = Plain(width=8, blocks=3).network().double().eval()
        assert not without.load_state_dict(tower.state_dict(), strict=False).missing_keys
        assert (without(image) - tower(image)).abs().max() > 0.1


@pytest.mark.parametrize("width", [5, 32])
@pytest.mark.parametrize(("shuffle", "blocks"), [(1, 1), (2, 6), (4, 3)])
def test_its_parameters_are_counted_by_hand(shuffle, blocks, width):
    space = Plain(width=width, blocks=blocks, shuffle=shuffle)
    inner, inside = 3 * shuffle**2, 2 * blocks * 9 * width**2
    outside = 2 * 9 * inner * width + width + inner
    assert measure(space.network(), "parameters") == inside + 2 * blocks * width + outside
    scaled = space.model_copy(update={"norm": "batch"})  # each bias gives way to a scale and a shift
    assert measure(scaled.network(), "parameters") == inside + 4 * blocks * width + outside


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_its_macs_are_counted_by_hand_and_by_thop(space):
    inner, shape = 3 * space.shuffle**2, (3, 16, 24)
    a_pixel = 9 * (2 * inner * 8 + 2 * 2 * 8**2)
    macs = a_pixel * 16 * 24 // space.shuffle**2
    assert measure(space.network(), "macs", shape) == thop_macs(space.network(), shape) == macs


def test_the_preset_is_the_baseline():
    space = load_space("plain")
    assert space == Plain() == Plain(width=32, blocks=6, shuffle=2, norm="none")
    assert space.choices() == {}
    with torch.device("meta"):
        network = space.network()
    assert measure(network, "parameters") == 117_932
    assert measure(network, "macs", (3, 320, 480)) == 480 * 320 // 4 * 117_504  # 4.5 G
    assert load_space("attention") == Plain(attention=True)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_untrained_it_gives_the_image_back(space, norm):
    image = torch.rand(2, 3, 8, 12)
    tower = space.model_copy(update={"norm": norm}).network()
    assert torch.equal(tower(image), image)
    assert torch.equal(two(space, fusion="mean").network()(image).fused, image)


def test_its_first_step_moves_the_head_and_its_second_all_weights():
    tower = SPACES[1].network()
    clean, image = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    optimiser = torch.optim.SGD(tower.parameters(), lr=0.1)
    moved = []
    for _ in range(2):
        optimiser.zero_grad()
        (tower(image) - clean).square().mean().backward()
        moved.append({name for name, weight in tower.named_parameters() if weight.grad.any()})
        optimiser.step()
    assert moved == [{"last.weight", "last.bias"}, {name for name, _ in tower.named_parameters()}]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_its_features_are_of_the_size_that_the_contract_says(space):
    tower, image = space.network(), torch.rand(1, 3, 8, 12)
    features = tower.stem(image)
    assert tower.channels == [(8,), (8,)]
    for stage in tower.stages():
        before = [x.clone() for x in features]
        after = stage(features, image)
        assert torch.equal(features[0], before[0])  # a stage writes into nothing that it was given
        (x,) = features = after
        assert x.shape == (1, 8, 8 // tower.shuffle, 12 // tower.shuffle)
        assert tower.head(features, image).shape == image.shape
    assert list(tower.restoring) == [0, 1]
    assert tower.size_multiple == tower.shuffle == space.shuffle


@pytest.mark.parametrize("shuffle", [1, 2, 4])
@pytest.mark.parametrize("blocks", [1, 2])
def test_how_far_it_sees(blocks, shuffle):
    """2 blocks + 2 pixels of the features; from the first pixel of a square on to the last of another one."""
    tower = Plain(width=2, blocks=blocks, shuffle=shuffle).network().double()
    for parameter in tower.parameters():
        nn.init.constant_(parameter, 0.1)  # positive weights let no path vanish
    beyond = (2 * blocks + 2) * shuffle
    assert receptive_radius(tower, shuffle) == beyond + shuffle - 1
    middle = beyond + shuffle
    side = 2 * middle + shuffle
    image = torch.rand(1, 3, side, side, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(tower(image)[0, 0, middle, middle], image)
    reached = gradient[0].abs().sum(0).nonzero()
    assert reached.min().item() == middle - beyond
    assert reached.max().item() == middle + beyond + shuffle - 1


@pytest.mark.parametrize(
    "fields", [{"width": 0}, {"blocks": 0}, {"shuffle": 3}, {"norm": "group"}, {"depth": 6}]
)
def test_options_that_make_no_sense(fields):
    with pytest.raises(ValidationError, match=next(iter(fields))):
        Plain(**fields)


# As a tower among others


def test_two_of_them_are_cross_stitched_and_fused(randomised):
    space = two(SPACES[1], stitch="channel", fusion="mask")
    network = randomised(space.network()).eval()
    assert [tuple(stitch.matrices[0].shape) for stitch in network.stitches] == [(2, 2, 8)] * 2
    image = torch.rand(2, 3, 8, 12)
    derain, desnow = network.towers.values()
    x, y = derain.stem(image)[0], desnow.stem(image)[0]
    for stage, mixing in enumerate(network.stitches):
        (x,), (y,) = derain.stages()[stage]([x], image), desnow.stages()[stage]([y], image)
        (matrix,) = mixing()
        x, y = (row[0][:, None, None] * x + row[1][:, None, None] * y for row in matrix)
    restoration = network(image, stages=True)
    torch.testing.assert_close(restoration.tasks["derain"], derain.head([x], image))
    torch.testing.assert_close(restoration.tasks["desnow"], desnow.head([y], image))
    assert not torch.allclose(restoration.tasks["derain"], restoration.tasks["desnow"])
    assert [len(images) for images in restoration.stages.values()] == [2, 2]
    assert restoration.fused.shape == image.shape


def test_a_genotype_without_choices_is_that_of_its_network(tmp_path):
    genotype = Genotype(space=two(SPACES[2]), choices={})
    assert Genotype.read(genotype.write(tmp_path / "plain.json")) == genotype


def test_its_normalisations_are_folded_for_inference(randomised):
    tower = randomised(Plain(width=8, blocks=2, norm="batch").network()).double().eval()
    image, folded = torch.rand(1, 3, 8, 8, dtype=torch.float64), optimised(tower)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(image), tower(image), rtol=0, atol=1e-10)


def saved(space, folder, randomised):
    """A model file of random weights that changes pictures a little, so that little of them is cut off."""
    genotype = Genotype(space=space, choices={})
    network = randomised(genotype.network()).eval()
    with torch.no_grad():
        for tower in network.towers.values():
            for parameter in tower.last.parameters():
                parameter.mul_(0.03)
    return save_model(folder / "model.safetensors", network, ModelDescription(genotype=genotype))


@pytest.mark.parametrize("shuffle", [1, 2, 4])
def test_tiles_equal_the_whole_picture(shuffle, tmp_path, randomised):
    path = saved(two(Plain(width=4, blocks=1, shuffle=shuffle)), tmp_path, randomised)
    picture = torch.rand(3, 50, 71).permute(1, 2, 0).numpy()
    whole, tiled = (Restorer.load(path, device="cpu", tile=tile) for tile in (None, 16))
    tiles = []
    restored = tiled(picture, lambda done, total: tiles.append(total))
    assert tiles[0] > 10
    assert ((restored > 0) & (restored < 1)).mean() > 0.8
    assert np.abs(restored - picture).mean() > 0.01
    np.testing.assert_allclose(restored, whole(picture), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shuffle", [1, 2, 4])
def test_its_onnx_file_restores_alike(shuffle, tmp_path, randomised):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    path = saved(two(Plain(width=4, blocks=1, shuffle=shuffle)), tmp_path, randomised)
    assert export_onnx(path, tmp_path / "model.onnx") <= 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert_restores_alike(lambda image: session.run(["restored"], {"image": image.numpy()})[0], path)


@pytest.mark.parametrize("shuffle", [1, 2, 4])
def test_its_program_restores_alike(shuffle, tmp_path, randomised):
    path = saved(two(Plain(width=4, blocks=1, shuffle=shuffle)), tmp_path, randomised)
    assert export_program(path, tmp_path / "model.pt2") <= 1e-5
    program = torch.export.load(tmp_path / "model.pt2").module()
    assert_restores_alike(lambda image: program(image).detach().numpy(), path)


def assert_restores_alike(run, path):
    """An exported file and the Restorer of the model, of features of one pixel too."""
    restorer = Restorer.load(path, device="cpu", tile=None)
    for images, height, width in [(1, 1, 1), (2, 5, 3), (1, 17, 24), (1, 3, 40), (1, 32, 32)]:
        image = torch.rand(images, 3, height, width)
        torch.testing.assert_close(torch.from_numpy(run(image)), restorer(image), atol=1e-5, rtol=0)


# As a program runs it


def test_there_is_nothing_to_search(tmp_path):
    with pytest.raises(ManasError, match="no forks, so there is nothing to search; retrain it as it is"):
        manas.search(search_config(run=str(tmp_path / "run"), space="plain"))


@pytest.mark.parametrize(
    ("genotype", "sources"),
    [("plain", [RAIN]), ({"derain": "plain"}, [RAIN]), ({"derain": "plain", "desnow": "plain"}, [RAIN, SNOW])],
    ids=str,
)
def test_it_is_retrained_by_its_name(genotype, sources, tmp_path):
    config = retrain_config(genotype, run=str(tmp_path / "run"), epochs=1, steps=1, data={"sources": sources})
    description = read_description(manas.retrain(config))
    assert description.genotype.space.towers == {source["task"]: Plain() for source in sources}
