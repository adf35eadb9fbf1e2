"""A torch.export program does what the Restorer does, for images of any size, and needs torch alone."""

import json
import logging
import zipfile
from pathlib import Path

import pytest
import torch
from training.tiny_runs import tower

from manas.architecture.genotype import Genotype
from manas.errors import ManasError
from manas.exporting import program
from manas.exporting.program import export_program, quietly, require_equal, traced
from manas.inference.restorer import Restorer
from manas.restoration.model_file import ModelDescription, save_model
from manas.restoration.network import RestorationSpace
from search_spaces.dual_recursive import DualRecursive

SIZES = [(1, 1, 1), (3, 1, 2), (1, 5, 3), (2, 17, 24), (1, 64, 64)]  # images, height, width


def write_model(path, space, randomised):
    torch.manual_seed(0)
    genotype = Genotype.sample(space, seed=1)
    described = ModelDescription(genotype=genotype, training={"steps": 7}, degradations={"derain": ["rain"]})
    return save_model(path / "model.safetensors", randomised(genotype.network()), described)


@pytest.fixture(scope="module")
def model(tmp_path_factory, randomised):
    """A model file of a tower with two scales, normalisation and global pooling."""
    space = RestorationSpace(towers={"derain": tower(attention={"groups": 1, "gates": ["cbam"]})})
    return write_model(tmp_path_factory.mktemp("tower"), space, randomised)


@pytest.fixture(scope="module")
def recursive(tmp_path_factory, randomised):
    """A model file of two towers that are traced in a second, and whose outputs differ."""
    towers = {task: DualRecursive(channels=4, stages=1, recursions=1) for task in ("derain", "desnow")}
    return write_model(tmp_path_factory.mktemp("recursive"), RestorationSpace(towers=towers), randomised)


@pytest.fixture(scope="module")
def exported(model):
    """The program file and the difference that was measured."""
    out = model.with_suffix(".pt2")
    return out, export_program(model, out)


def restorer_of(model, **options):
    return Restorer.load(model, device="cpu", tile=None, **options)


def test_it_restores_images_of_any_size(model, exported):
    files = {"manas.json": ""}
    loaded, restorer = torch.export.load(exported[0], extra_files=files).module(), restorer_of(model)
    for images, height, width in SIZES:
        image = torch.rand(images, 3, height, width)
        restored = loaded(image)
        torch.testing.assert_close(restored, restorer(image), atol=1e-5, rtol=0)
        assert 0 <= restored.min() <= restored.max() <= 1
        assert images * height * width == 1 or (restored - image).abs().max() > 0.01
    assert exported[1] <= 1e-5
    said = json.loads(files["manas.json"])
    described = restorer.description.model_dump(mode="json")
    assert {key: said.pop(key) for key in described} == described
    assert said == {"task": None, "exported_with": {"manas": "0.1.0", "torch": torch.__version__}}


def test_it_takes_the_output_of_a_task(recursive, tmp_path):
    export_program(recursive, tmp_path / "out.pt2", task="desnow")
    loaded = torch.export.load(tmp_path / "out.pt2").module()
    image = torch.rand(1, 3, 9, 7)
    for other in (None, "derain", "desnow"):
        difference = (loaded(image) - restorer_of(recursive, task=other)(image)).abs().max()
        assert (difference <= 1e-5) == (other == "desnow")


def test_an_unknown_task_is_named(model, tmp_path):
    with pytest.raises(ManasError, match="no tower for 'dersin'; did you mean 'derain'"):
        export_program(model, tmp_path / "out.pt2", task="dersin")
    assert list(tmp_path.iterdir()) == []


def test_it_names_no_file_of_this_machine(exported):
    with zipfile.ZipFile(exported[0]) as archive:
        content = b"".join(map(archive.read, archive.namelist()))
    for folder in (Path(program.__file__).parent, Path(torch.__file__).parent):
        assert str(folder).encode() not in content


def test_one_that_differs_is_not_written(recursive, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "crop_to", lambda image, height, width: image[..., :1])
    out = tmp_path / "out.pt2"
    out.write_bytes(b"an earlier one")
    with pytest.raises(ManasError, match=r"out\.pt2: not written: gives \(1, 3, 37, 1\) for \(1, 3, 37, 53\)"):
        export_program(recursive, out)
    assert out.read_bytes() == b"an earlier one"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", ["backed_size_oblivious", "_guards_code"])
def test_a_torch_without_its_private_names_is_refused(name, recursive, monkeypatch):
    restorer = restorer_of(recursive)
    if name == "_guards_code":
        monkeypatch.setattr(torch.export, "export", lambda *given, **options: object())
    else:
        monkeypatch.setattr(torch.fx.experimental, "_config", object())
    with pytest.raises(ManasError, match=rf"has no {name}, which export needs; it is tested with torch 2\.13"):
        traced(restorer)


class TestRequireEqual:
    def test_the_largest_difference_is_told(self, recursive):
        restorer = restorer_of(recursive)
        off = {37: 2e-5, 5: 3e-5, 1: 1e-5}
        difference = require_equal(lambda image: restorer(image) + off[image.shape[2]], restorer, "out")
        assert difference == pytest.approx(3e-5, rel=1e-2)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda restored: restored + 2e-4, "out: not written: off by 2.0e-04"),
            (lambda restored: restored * float("nan"), "off by nan"),
            (lambda restored: restored[..., :1], r"gives \(1, 3, 37, 1\) for \(1, 3, 37, 53\)"),
        ],
        ids=["values", "nan", "shape"],
    )
    def test_a_difference_is_refused(self, change, says, recursive):
        restorer = restorer_of(recursive)
        with pytest.raises(ManasError, match=says):
            require_equal(lambda image: change(restorer(image)), restorer, "out")


def test_the_log_speaks_again_after_it(caplog):
    with quietly():
        logging.getLogger("torch").warning("unheard")
    logging.getLogger("other").warning("heard")
    assert [record.message for record in caplog.records] == ["heard"]
