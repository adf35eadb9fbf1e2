"""Global pooling, and who answers for it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from manas.restoration.pooling import image_maximum, image_mean, pooled_by
from search_spaces.multi_scale_attentive.gates import PUBLISHED_GATES, Pooled

ASKS = {"channel_attention": ["mean"], "channel_attention_v2": ["mean", "maximum"], "cbam": ["mean", "maximum"]}


class Recording:
    """Answers with the same value everywhere, and remembers what it was asked."""

    def __init__(self, value=0.0):
        self.value, self.kinds = value, []

    def __call__(self, x, kind):
        self.kinds.append(kind)
        return x.new_full(x.shape[:2], self.value)


def test_alone_they_pool_over_the_image():
    x = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(image_mean(x), x.flatten(2).mean(2))
    assert torch.equal(image_maximum(x), x.flatten(2).max(2).values)


def test_within_the_block_another_answers():
    x, answer = torch.randn(2, 3, 5, 7), Recording(4.0)
    with pooled_by(answer):
        assert torch.equal(image_mean(x), torch.full((2, 3), 4.0))
        assert torch.equal(image_maximum(x), torch.full((2, 3), 4.0))
    assert answer.kinds == ["mean", "maximum"]
    torch.testing.assert_close(image_mean(x), x.mean((2, 3)))


def test_blocks_nest_and_end_where_an_error_leaves_them():
    x = torch.zeros(1, 1, 2, 2)

    def fail():
        with pooled_by(Recording(2.0)):
            assert image_mean(x).item() == 2
            raise KeyError

    with pooled_by(Recording(1.0)):
        with pytest.raises(KeyError):
            fail()
        assert image_mean(x).item() == 1
    assert image_mean(x).item() == 0


def test_another_thread_answers_for_itself():
    x = torch.ones(1, 1, 2, 2)
    with pooled_by(Recording(5.0)), ThreadPoolExecutor(1) as threads:
        assert threads.submit(image_mean, x).result().item() == 1
        assert image_mean(x).item() == 5


@pytest.mark.parametrize("gate", PUBLISHED_GATES)
def test_gates_pool_by_it_and_ask_once_for_what_they_share(gate):
    answer = Recording()
    with pooled_by(answer):
        PUBLISHED_GATES[gate](8, 4, "batch").eval()(Pooled(torch.randn(1, 8, 6, 6)))
    assert answer.kinds == ASKS.get(gate, [])
