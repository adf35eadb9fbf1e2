"""`manas export`: what is written is what the suffix says, and an option that has no effect is refused."""

import pytest
import torch

from manas.architecture.genotype import Genotype
from manas.inference.restorer import Restorer
from manas.restoration.model_file import ModelDescription, save_model
from manas.restoration.network import RestorationSpace
from search_spaces.dual_recursive import DualRecursive


@pytest.fixture
def model(tmp_path, randomised):
    """A model file, alone in a run directory."""
    towers = {task: DualRecursive(channels=4, stages=1, recursions=1) for task in ("derain", "desnow")}
    genotype = Genotype.sample(RestorationSpace(towers=towers, stitch="none", fusion="mean"), seed=0)
    network = randomised(genotype.network())
    return save_model(tmp_path / "run" / "model.safetensors", network, ModelDescription(genotype=genotype))


def restored(model, image, task=None):
    return Restorer.load(model, device="cpu", tile=None, task=task)(image)


def test_a_genotype(model, tmp_path, run):
    for source in (model, model.parent):
        out = tmp_path / "new" / "out.json"
        assert run("export", source, out) == (0, f"{out}\n", "")
        assert Genotype.read(out) == Restorer.load(model, device="cpu").description.genotype
        out.unlink()


def test_onnx(model, tmp_path, run):
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tmp_path / "new" / "out.ONNX"
    code, said, complaint = run("export", model.parent, out, "--opset", 18, "--task", "blind")
    assert (code, complaint) == (0, "")
    assert said.startswith("differs from manas by ")
    assert said.endswith(f"at most, of values in [0, 1]\n{out}\n")
    image = torch.rand(1, 3, 5, 9)
    (given,) = onnxruntime.InferenceSession(out).run(None, {"image": image.numpy()})
    torch.testing.assert_close(torch.from_numpy(given), restored(model, image), atol=1e-5, rtol=0)


def test_a_program(model, tmp_path, run):
    out = tmp_path / "out.pt2"
    code, said, complaint = run("export", model, out, "--task", "desnow")
    assert (code, complaint) == (0, "")
    assert said.splitlines()[-1] == str(out)
    image = torch.rand(1, 3, 5, 9)
    expected = restored(model, image, task="desnow")
    torch.testing.assert_close(torch.export.load(out).module()(image), expected, atol=1e-5, rtol=0)


def test_a_card(model, tmp_path, run):
    out = tmp_path / "card.md"
    assert run("export", model, out) == (0, f"{out}\n", "")
    assert "---\n\n# Restoration network: derain, desnow\n" in out.read_text()


@pytest.mark.parametrize("name", ["out.pth", "out"])
def test_a_suffix_that_is_none_of_ours(name, model, tmp_path, fails):
    fails("export", model, tmp_path / name, says=[name, ".json, .onnx, .pt2, .md"])


@pytest.mark.parametrize(
    ("suffix", "option"),
    [
        (".json", "--task"),
        (".json", "--opset"),
        (".pt2", "--opset"),
        (".md", "--task"),
        (".onnx", "--evaluation"),
    ],
)
def test_an_option_without_effect(suffix, option, model, tmp_path, fails):
    fails("export", model, tmp_path / f"out{suffix}", option, 18, says=[option, "no effect", suffix])
    assert not (tmp_path / f"out{suffix}").exists()


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".md"])
def test_what_is_no_model(suffix, tmp_path, fails):
    (tmp_path / "genotype.json").write_text("{}")
    for source in (tmp_path / "genotype.json", tmp_path / "none", tmp_path):
        fails("export", source, tmp_path / f"out{suffix}", says=[str(source), "manas retrain"])
    assert not (tmp_path / f"out{suffix}").exists()
