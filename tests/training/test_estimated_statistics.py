"""Normalisation statistics that fit the averaged weights."""

import copy
import json

import pytest
import torch
from torch import nn
from training.tiny_runs import RAIN, retrain_config, write_genotype

import manas
from manas.data.dataset.backgrounds import Backgrounds
from manas.data.dataset.config import DataConfig
from manas.training.distributed import Process
from manas.training.estimated_statistics import IMAGES, Statistics

CPU = Process(0, 1, torch.device("cpu"))
DATA = DataConfig(
    sources=(RAIN,),
    batch=IMAGES // 4,
    versions=2,
    patch=16,
    validation_patch=16,
    validation_images=1,
    workers=0,
)


@pytest.fixture(scope="module")
def backgrounds():
    return Backgrounds(DATA, ("derain",), seed=0, held_share=0.3)


def normalised():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()


def test_they_are_the_means_over_the_first_batches(backgrounds):
    network = normalised()
    before = copy.deepcopy(network.state_dict())
    Statistics(backgrounds, CPU).estimate(network)
    stream = backgrounds.batches("kept")
    images = [next(stream).degraded.flatten(0, 1) for _ in range(2)]  # 2 x 64 backgrounds x 2 = IMAGES
    features = [network[0](x) for x in images]
    mean = torch.stack([f.mean((0, 2, 3)) for f in features]).mean(0)
    variance = torch.stack([f.transpose(0, 1).flatten(1).var(1) for f in features]).mean(0)
    torch.testing.assert_close(network[1].running_mean, mean)
    torch.testing.assert_close(network[1].running_var, variance)
    for name, value in network.named_parameters():
        assert torch.equal(value, before[name]), name
    assert not network.training
    assert network[1].momentum == 0.1


def test_the_same_network_has_the_same_again(backgrounds):
    statistics, networks = Statistics(backgrounds, CPU), (normalised(), normalised())
    with torch.no_grad():
        networks[1][1].running_mean += 5
    for network in networks:
        statistics.estimate(network)
    assert torch.equal(networks[0][1].running_mean, networks[1][1].running_mean)


def test_a_network_without_them_asks_for_no_image(monkeypatch, backgrounds):
    monkeypatch.setattr(Backgrounds, "batches", lambda *_, **__: pytest.fail("images were loaded"))
    Statistics(backgrounds, CPU).estimate(nn.Conv2d(3, 4, 3))


def test_what_is_saved_has_those_that_are_asked_for(tmp_path):
    genotype, models = write_genotype(tmp_path / "derain.json"), {}
    for kind in ("estimated", "running"):
        config = retrain_config({"derain": genotype}, run=str(tmp_path / kind), statistics=kind, epochs=1)
        models[kind] = manas.Restorer.load(manas.retrain(config), device="cpu").network.state_dict()
        last = (tmp_path / kind / "metrics.jsonl").read_text().splitlines()[-1]
        assert "validation/psnr" in json.loads(last)
    assert models["estimated"].keys() == models["running"].keys()
    different = [n for n, v in models["estimated"].items() if not torch.equal(v, models["running"][n])]
    assert different
