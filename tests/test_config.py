"""Configuration files: what is read, and what is refused by name before any work."""

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field
from training.tiny_runs import search_settings

from manas.config import read_config
from manas.errors import ManasError, explain, nearest
from manas.searching.config import SearchConfig
from manas.training.config import RetrainConfig


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(4, ge=1)
    name: str | None = None


class Whole(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: float = Field(0.5, gt=0)
    part: Part = Part()
    parts: tuple[Part, ...] = ()
    maybe: Part | None = None
    by_name: dict[str, int] = {}


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write


def refused(parts, path=None, *overrides):
    with pytest.raises(ManasError) as error:
        read_config(Whole, path, overrides)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


class TestRead:
    def test_defaults(self):
        assert read_config(Whole, None) == Whole()

    def test_an_empty_file_is_the_defaults(self, file):
        assert read_config(Whole, file("")) == Whole()
        assert read_config(Whole, file("# nothing\n")) == Whole()

    def test_a_file(self, file):
        read = read_config(Whole, file("rate: 2\nparts: [{width: 3}, {name: x}]\nby_name: {a: 1}"))
        assert read == Whole(rate=2, parts=(Part(width=3), Part(name="x")), by_name={"a": 1})

    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("rate=0.25", {"rate": 0.25}),
            ("rate=1e-3", {"rate": 1e-3}),
            ("part.width=7", {"part": Part(width=7)}),
            ("parts=[{width: 9}]", {"parts": (Part(width=9),)}),
            ("maybe.name=a=b", {"maybe": Part(name="a=b")}),
            ("maybe=null", {"maybe": None}),
            ("by_name.x=5", {"by_name": {"x": 5}}),
            ('part.name="5"', {"part": Part(name="5")}),
        ],
    )
    def test_an_override(self, override, expected):
        assert read_config(Whole, None, [override]) == Whole(**expected)

    def test_overrides_into_lists_and_in_order(self, file):
        path = file("parts: [{width: 1}, {width: 2, name: b}]\npart: {width: 3}")
        read = read_config(
            Whole, path, ["parts.1.width=5", "parts.0={name: a}", "part.width=6", "part.width=7"]
        )
        assert read == Whole(parts=(Part(name="a"), Part(width=5, name="b")), part=Part(width=7))

    def test_an_override_keeps_the_rest_of_the_file(self, file):
        read = read_config(Whole, file("part: {width: 3, name: x}"), ["part.width=5"])
        assert read.part == Part(width=5, name="x")


class TestRefused:
    def test_unknown_keys_with_the_nearest_name(self, file):
        path = file("rat: 1")
        refused([str(path), "unknown key 'rat'", "did you mean 'rate'"], path)
        refused(["unknown key 'part.widht'", "did you mean 'width'"], None, "part.widht=1")
        refused(["unknown key 'parts.0.naem'", "did you mean 'name'"], None, "parts=[{naem: x}]")
        refused(["unknown key 'maybe.with'", "did you mean 'width'"], None, "maybe.with=1")
        refused(["unknown key 'zzz'", "valid: rate, part, parts, maybe, by_name"], None, "zzz=1")

    def test_wrong_types(self, file):
        path = file("rate: fast")
        refused([str(path), "rate", "number", "'fast'"], path)
        refused(["part.width", "integer", "2.5"], None, "part.width=2.5")
        refused(["part", "7"], None, "part=7")
        refused(["by_name.a", "integer", "'x'"], None, "by_name.a=x")

    def test_values_out_of_range(self):
        refused(["rate", "greater than 0", "given: -1"], None, "rate=-1")
        refused(["part.width", "greater than or equal to 1", "given: 0"], None, "part.width=0")

    def test_overrides_that_are_none(self, file):
        refused(["--set rate", "key=value"], None, "rate")
        refused(["--set =1", "key=value"], None, "=1")
        refused(["--set rate=[", "not valid YAML"], None, "rate=[")
        refused(["--set rate.x=1", "'rate' holds a value"], file("rate: 1"), "rate.x=1")
        path = file("parts: [{width: 1}]")
        refused(["--set parts.1.width=5", "'1' is no place in a list of 1"], path, "parts.1.width=5")
        refused(["--set parts.x=5", "'x' is no place in a list of 1"], path, "parts.x=5")
        refused(["--set parts.-1=5", "'-1' is no place in a list of 1"], path, "parts.-1=5")

    def test_an_override_into_a_value_of_a_list(self, file):
        path = file("parts: [3]")
        refused(["--set parts.0.width=5"], path, "parts.0.width=5")
        refused(["--set parts.0.width.x=5"], path, "parts.0.width.x=5")

    def test_bad_files(self, file, tmp_path):
        refused([str(tmp_path / "none.yaml"), "cannot be read", "give an existing"], tmp_path / "none.yaml")
        refused([str(tmp_path), "cannot be read"], tmp_path)
        path = file("rate: [1\npart: 2")
        refused([str(path), "not valid YAML", "line 2"], path)
        for text in ("- 1", "text", "3"):
            refused(["a mapping of keys to values"], file(text))

    def test_a_key_that_is_given_twice(self, file):
        """YAML would silently keep the last one."""
        refused(["rate"], file("rate: 1\nrate: 2"))


def test_yaml_runs_no_code(file, tmp_path):
    path = file(f"rate: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'it_ran'}]")
    refused([str(path), "not valid YAML"], path)
    assert not (tmp_path / "it_ran").exists()


@pytest.mark.parametrize("model", [SearchConfig, RetrainConfig])
def test_what_is_written_reads_back(model):
    config = model(genotype={"derain": "a.json"}) if model is RetrainConfig else model()
    assert model.model_validate(config.model_dump(mode="json")) == config


def test_a_space_may_be_a_preset_a_mapping_or_a_file(tmp_path):
    described = search_settings()["space"]
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(described))
    by_file = read_config(SearchConfig, None, [f"space={tmp_path / 'space.yaml'}"]).space
    assert by_file == read_config(SearchConfig, None, [f"space={described}"]).space
    assert read_config(SearchConfig, None, ["space=manas_tiny"]).space.channels == (32, 48)


def test_explain_and_nearest():
    assert nearest("wdith", ["width", "name"]) == "did you mean 'width'?"
    assert nearest("zzz", ["width", "name"]) == "valid: width, name"
    with pytest.raises(ValueError, match="validation error") as error:
        Whole(part={"width": "x" * 500})
    line = str(explain(error.value, Whole, "here"))
    assert line.startswith("here: part.width: ")
    assert len(line) < 250


class TestPartOfAGroup:
    """What is not given of a group keeps the program's own default of it."""

    def test_of_the_data(self):
        config = read_config(RetrainConfig, {"genotype": "g.json"}, ["data.patch=48"])
        assert config.data.patch == 48
        assert config.data.tasks == ("derain", "desnow")

    def test_of_an_optimiser(self):
        overrides = ["method=gradient", "alphas.rate=0.5", "weights.rate=0.25"]
        config = read_config(SearchConfig, None, overrides)
        assert (config.alphas.rate, config.alphas.betas) == (0.5, (0.5, 0.999))
        assert (config.weights.rate, config.weights.clip) == (0.25, 1.0)

    def test_lists_are_given_whole(self):
        sources = [{"task": "desnow", "weather": "snow"}]
        config = read_config(RetrainConfig, {"genotype": "g.json", "data": {"sources": sources}})
        assert config.data.tasks == ("desnow",)


def test_a_date_that_there_is_not(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("run: 2024-13-45\n")
    with pytest.raises(ManasError, match=r"a\.yaml: not valid YAML: month must be in 1\.\.12"):
        read_config(RetrainConfig, file)
    with pytest.raises(ManasError, match="--set run=2024-13-45: the value is not valid YAML"):
        read_config(RetrainConfig, {"genotype": "drn"}, ["run=2024-13-45"])
