"""The attention module against its equations, written out by hand for two groups."""

import pytest
import torch

from manas.architecture.choice import Choice, choices_of
from manas.architecture.decide import Fixed, Recorded, Relaxed
from manas.relaxations.softmax import Softmax
from search_spaces.multi_scale_attentive.attention import Attention
from search_spaces.multi_scale_attentive.gates import PUBLISHED_GATES, Pooled

NAMES = tuple(PUBLISHED_GATES)


@pytest.fixture
def attention(randomised):
    """A function that builds the module for 16 channels, in evaluation mode."""

    def build(decide, groups=2):
        return randomised(Attention(16, groups, NAMES, "batch", decide, "label")).eval()

    return build


@pytest.fixture
def x():
    return torch.randn(2, 16, 6, 8)


def apply(gate, x):
    return x * gate(Pooled(x))


@pytest.mark.parametrize(
    "gates", [("skip_connect", "cbam", "none"), ("sep_conv_3x3", "channel_attention", "dil_conv_3x3_spatial")]
)
def test_two_groups_written_out(gates, x, attention):
    labels = ["label/node0/input", "label/node1/input", "label/node1/node0"]
    module = attention(Fixed(dict(zip(labels, gates, strict=True))))
    f0, f1 = x[:, :8], x[:, 8:]
    ((o00,), (o10, o11)) = module.nodes
    u0 = apply(o00, f0)
    u1 = apply(o10, f1) + apply(o11, u0)
    g = apply(module.whole, f0 + f1)
    z = module.merge(torch.cat([u0, u1, g], 1))
    torch.testing.assert_close(module(x), apply(module.output, z + x))


def test_four_groups_written_out(x, attention):
    decide = Recorded()
    Attention(16, 4, NAMES, "batch", decide, "label")
    labels = [fork.label for fork in decide.forks]
    assert labels == [
        f"label/node{k}/{source}" for k in range(4) for source in ["input", *(f"node{j}" for j in range(k))]
    ]
    gates = [NAMES[2:][n % 7] for n in range(10)]
    module = attention(Fixed(dict(zip(labels, gates, strict=True))), groups=4)
    parts, nodes = x.split(4, 1), []
    for k, part in enumerate(parts):
        own, *others = module.nodes[k]
        nodes.append(apply(own, part) + sum(apply(o, nodes[j]) for j, o in enumerate(others)))
    g = apply(module.whole, parts[0] + parts[1] + parts[2] + parts[3])
    z = module.merge(torch.cat([*nodes, g], 1))
    torch.testing.assert_close(module(x), apply(module.output, z + x))


def test_the_merge_has_one_relu_between_its_two_convolutions(attention):
    module = attention(Relaxed(Softmax()))
    kinds = [[type(layer).__name__ for layer in step] for step in module.merge]
    assert kinds == [["Conv2d", "BatchNorm2d", "ReLU"], ["Conv2d", "BatchNorm2d"]]


def test_an_edge_mixes_its_gates_by_softmax(x, attention):
    """Released bug B3: there the raw alphas were the weights."""
    module = attention(Relaxed(Softmax()))
    edge = module.nodes[0][0]
    assert isinstance(edge, Choice)
    pooled = Pooled(x[:, :8])
    p = edge.alpha.softmax(0)
    gated = [p[k] * edge.candidates[name](pooled) for k, name in enumerate(NAMES)]
    torch.testing.assert_close(edge(pooled), sum(gated[1:], gated[0]))


def test_adding_a_constant_to_the_alphas_changes_nothing(x, attention):
    module = attention(Relaxed(Softmax()))
    before = module(x)
    with torch.no_grad():
        for choice in choices_of(module):
            choice.alpha.add_(3.0)
    torch.testing.assert_close(module(x), before)


def test_every_alpha_gets_a_gradient(x, attention):
    module = attention(Relaxed(Softmax()))
    module(x).square().sum().backward()
    assert all(choice.alpha.grad.all() for choice in choices_of(module))


def test_each_edge_has_alphas_of_its_own(x, attention):
    module = attention(Relaxed(Softmax()))
    alphas = [choice.alpha for choice in choices_of(module)]
    assert len({id(alpha) for alpha in alphas}) == 3
    outputs = []
    for alpha in alphas:
        with torch.no_grad():
            before = alpha.clone()
            alpha[NAMES.index("sep_conv_3x3")] += 5
            outputs.append(module(x))
            alpha.copy_(before)
    assert not any(torch.allclose(outputs[i], outputs[j]) for i, j in [(0, 1), (0, 2), (1, 2)])


def test_the_input_is_left_as_it_was(x, attention):
    before = x.clone()
    attention(Relaxed(Softmax()))(x)
    assert torch.equal(x, before)
