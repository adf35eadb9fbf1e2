"""An ONNX file restores what the Restorer restores: every gate, stitch and fusion, for images of any size."""

import importlib.util
import json
import subprocess
import sys
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from manas.architecture.genotype import Genotype
from manas.errors import ManasError
from manas.exporting import onnx as manas_onnx
from manas.exporting.onnx import export_onnx
from manas.inference.restorer import Restorer
from manas.restoration.model_file import ModelDescription, save_model
from manas.restoration.network import RestorationSpace, assemble
from search_spaces.dual_recursive import DualRecursive
from search_spaces.frontier import Frontier
from search_spaces.multi_scale_attentive.gates import PUBLISHED_GATES
from search_spaces.multi_scale_attentive.tower import AttentionOptions, MultiScaleAttentive, StemOptions

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

REPOSITORY = Path(__file__).parents[2]
LOCAL_MULTIPLE = 16  # of a chain at a half of the resolution, whose gates have cells of eight pixels
SIZES = [(1, 1, 1), (3, 1, 2), (1, 5, 3), (2, 17, 24), (1, 64, 64)]  # images, height, width


def write_model(folder, genotype, randomised):
    torch.manual_seed(0)
    network = randomised(genotype.network())
    return save_model(folder / "model.safetensors", network, ModelDescription(genotype=genotype))


def recursive(shuffle=1, **options):
    """The genotype of two towers that are traced in a second."""
    tower = DualRecursive(channels=4, stages=1, recursions=1, shuffle=shuffle)
    towers = {"derain": tower, "desnow": tower}
    return Genotype.sample(RestorationSpace(towers=towers, **options), seed=0)


def of_every_candidate():
    """The genotype of a tower that has every gate and every column."""
    tower = MultiScaleAttentive(
        channels=(6, 6),
        columns=(2,),
        stem=StemOptions(blocks=1, planes=2, expansion=2),
        attention=AttentionOptions(groups=3),
    )
    space = RestorationSpace(towers={"derain": tower})
    turns = {names: cycle(names) for names in set(space.choices().values())}
    choices = {label: next(turns[names]) for label, names in space.choices().items()}
    assert set(choices.values()) == {*PUBLISHED_GATES, "parallel", "fusion"}
    return Genotype(space=space, choices=choices)


@pytest.fixture(scope="module")
def model(tmp_path_factory, randomised):
    return write_model(tmp_path_factory.mktemp("model"), of_every_candidate(), randomised)


@pytest.fixture(scope="module")
def exported(model):
    """The file and the difference that was measured."""
    out = model.parent / "new" / "model.onnx"
    return out, export_onnx(model, out)


@pytest.fixture
def pair(tmp_path, randomised):
    """A model file of two towers."""
    return write_model(tmp_path, recursive(stitch="none", fusion="mean"), randomised)


def assert_restores_alike(out, model, task=None):
    """The file and the Restorer of the model, whose outputs are not the image."""
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    restorer = Restorer.load(model, device="cpu", tile=None, task=task)
    for images, height, width in SIZES:
        image = torch.rand(images, 3, height, width)
        (restored,) = session.run(["restored"], {"image": image.numpy()})
        expected = restorer(image)
        torch.testing.assert_close(torch.from_numpy(restored), expected, atol=1e-5, rtol=0)
        assert height < 17 or (expected - image).abs().max() > 0.01


def test_every_gate_and_column(model, exported):
    assert_restores_alike(exported[0], model)
    assert exported[1] <= 1e-5


@pytest.mark.parametrize(
    ("stitch", "fusion", "task"),
    [("layer", "conv", "desnow"), ("channel", "mask", None)],
)
def test_stitches_and_fusions(stitch, fusion, task, tmp_path, randomised):
    model = write_model(tmp_path, recursive(stitch=stitch, fusion=fusion), randomised)
    export_onnx(model, tmp_path / "out.onnx", task=task, opset=20)
    assert_restores_alike(tmp_path / "out.onnx", model, task)
    assert [entry.version for entry in onnx.load(tmp_path / "out.onnx").opset_import] == [20]


def on_the_image_unshuffled(kind, small_shuffled):
    if kind == "drn":
        return recursive(shuffle=4, stitch="layer", fusion="mean")
    return Genotype.sample(RestorationSpace(towers={"derain": small_shuffled}), seed=0)


@pytest.mark.parametrize("kind", ["drn", "manas"])
def test_the_image_unshuffled(kind, tmp_path, small_shuffled, randomised):
    model = write_model(tmp_path, on_the_image_unshuffled(kind, small_shuffled), randomised)
    assert export_onnx(model, tmp_path / "out.onnx") <= 1e-5
    assert_restores_alike(tmp_path / "out.onnx", model)


@pytest.fixture(scope="module")
def graph(exported):
    return onnx.load(exported[0])


class TestFile:
    def test_it_is_one_and_valid(self, exported, graph):
        assert list(exported[0].parent.iterdir()) == [exported[0]]
        onnx.checker.check_model(graph, full_check=True)
        assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 18)]
        assert not any(node.metadata_props for node in graph.graph.node)

    def test_every_side_is_free(self, graph):
        for values, name in ((graph.graph.input, "image"), (graph.graph.output, "restored")):
            (value,) = values
            sides = [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
            assert (value.name, sides) == (name, ["batch", 3, "height", "width"])
            assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT

    def test_it_says_where_it_comes_from(self, graph, model):
        (entry,) = graph.metadata_props
        said = json.loads(entry.value)
        described = Restorer.load(model, device="cpu").description.model_dump(mode="json")
        assert {key: said.pop(key) for key in described} == described
        assert said == {"task": None, "exported_with": {"manas": "0.1.0", "torch": torch.__version__}}
        assert entry.key == "manas"

    def test_it_names_no_file_of_this_machine(self, exported):
        for folder in (REPOSITORY, Path(torch.__file__).parent):
            assert str(folder).encode() not in exported[0].read_bytes()


def test_an_opset_that_is_too_old(pair, tmp_path):
    with pytest.raises(ManasError, match="opset 17 cannot be written; take 18 or a newer one"):
        export_onnx(pair, tmp_path / "out.onnx", opset=17)


def test_an_opset_that_torch_leaves_out(pair, tmp_path, monkeypatch):
    left = SimpleNamespace(model=SimpleNamespace(opset_imports={"": 18}))
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: left)
    with pytest.raises(ManasError, match="cannot write opset 99; take an older one, down to 18"):
        export_onnx(pair, tmp_path / "out.onnx", opset=99)
    assert list(tmp_path.iterdir()) == [pair]


def test_a_file_that_differs_is_not_written(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(manas_onnx, "_convert", lambda restorer, opset, bare: WrongProgram())
    out = tmp_path / "out.onnx"
    out.write_bytes(b"an earlier one")
    with pytest.raises(
        ManasError, match=r"out\.onnx: not written: off by \d\.\d.* of \[0, 1\], more than 1e-04"
    ):
        export_onnx(pair, out)
    assert out.read_bytes() == b"an earlier one"
    assert sorted(tmp_path.iterdir()) == [pair, out]


class WrongProgram:
    """Gives the image as it is."""

    def save(self, path, external_data):
        sides = ["batch", 3, "height", "width"]
        image, restored = (
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sides)
            for name in ("image", "restored")
        )
        node = onnx.helper.make_node("Identity", ["image"], ["restored"])
        graph = onnx.helper.make_graph([node], "wrong", [image], [restored])
        opset = onnx.helper.make_opsetid("", 18)
        onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), path)


def test_without_the_extra_it_says_what_to_install(pair, tmp_path, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(manas_onnx, "find_spec", lambda name: None if name == "onnxruntime" else there(name))
    with pytest.raises(ManasError, match=r"ONNX needs onnxruntime; .* pip install 'manas\[onnx\]'"):
        export_onnx(pair, tmp_path / "out.onnx")


def test_the_example_restores_a_picture_without_torch_and_manas(model, exported, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    program = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(['torch', 'manas', 'search_spaces'])); "
        "sys.argv.pop(0); runpy.run_path(sys.argv[0])"
    )
    example = REPOSITORY / "experiments" / "onnx_example.py"
    arguments = [example, exported[0], tmp_path / "in.png", tmp_path / "out.png"]
    command = [sys.executable, "-W", "error", "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    restored = np.asarray(Image.open(tmp_path / "out.png")).astype(int)
    expected = Restorer.load(model, device="cpu", tile=None)(pixels).astype(int)
    assert np.abs(restored - expected).max() <= 1
    assert np.abs(restored - pixels).max() > 2


class TestBare:
    @pytest.fixture(scope="class")
    @staticmethod
    def bare(tmp_path_factory, randomised):
        space = Frontier(stages=2, width=8, gates=("local_channel_attention",))
        tower = Genotype(space=space, choices=space.by_hand()["RCAN, local"])
        folder = tmp_path_factory.mktemp("bare")
        model = write_model(folder, assemble({"restore": tower}, stitch="none", fusion="mean"), randomised)
        assert export_onnx(model, folder / "bare.onnx", bare=True) < 1e-5
        return model, folder / "bare.onnx"

    def test_it_restores_as_the_restorer_does(self, bare):
        model, file = bare
        image = torch.rand(2, 3, 2 * LOCAL_MULTIPLE, 30 * LOCAL_MULTIPLE)
        (given,) = onnxruntime.InferenceSession(file).run(None, {"image": image.numpy()})
        expected = Restorer.load(model, device="cpu", tile=None)(image)
        torch.testing.assert_close(torch.from_numpy(given), expected, atol=1e-5, rtol=0)

    def test_any_runtime_infers_its_sizes(self, bare):
        """Programs that load networks tell the scale of an unknown one by the shapes of 16x16 pixels."""
        file = onnx.load(bare[1])
        said = {each.key: each.value for each in file.metadata_props}
        assert said["multiple"] == str(LOCAL_MULTIPLE)
        for side, size in zip(file.graph.input[0].type.tensor_type.shape.dim, (1, 3, 16, 16), strict=True):
            side.Clear()
            side.dim_value = size
        file.graph.output[0].type.tensor_type.ClearField("shape")
        del file.graph.value_info[:]
        inferred = onnx.shape_inference.infer_shapes(file, strict_mode=True).graph.output[0]
        assert [side.dim_value for side in inferred.type.tensor_type.shape.dim] == [1, 3, 16, 16]

    def test_it_has_nothing_but_the_network(self, bare):
        kinds = {node.op_type for node in onnx.load(bare[1]).graph.node}
        assert kinds.isdisjoint({"Pad", "Slice", "Shape", "Reshape"})
