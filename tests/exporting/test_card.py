"""The model card says what the file says, derives limits from it, and calls the rest unknown."""

import re
from dataclasses import replace

import pytest
from training.tiny_runs import RAIN, SNOW, tower

from manas.architecture.genotype import Genotype
from manas.errors import ManasError
from manas.evaluation.measures import PSNR, SSIM
from manas.evaluation.protocols import PROTOCOLS
from manas.exporting.card import write_card
from manas.exporting.front_matter import listed, read_front_matter
from manas.restoration.model_file import ModelDescription, save_model
from manas.restoration.network import RestorationSpace

TRAINING = {"manas": "0.1.0", "seed": 7, "steps": 900, "validation": {"psnr": 31.234, "psnr/derain": 30.126}}
SEEN = {"derain": [RAIN | {"exclude": ["/somewhere/rain100"]}], "desnow": [SNOW | {"levels": ["heavy"]}]}
SCORES = """protocol,group,level,name,degraded_psnr,restored_psnr,degraded_ssim,restored_ssim
derain,rain,light,a,26.0,30.0,0.80,0.90
derain,rain,heavy,a,20.0,24.0,0.60,0.80
derain,snow,light,b,25.0,23.5,0.70,0.65
"""


@pytest.fixture
def card(tmp_path):
    """A function from what the model file says to the text of its card."""

    def card(scores=None, **said):
        space = RestorationSpace(towers={"derain": tower(), "desnow": tower()}, fusion="mask")
        genotype = Genotype.sample(space, seed=1)
        description = ModelDescription(genotype=genotype, **said)
        model = save_model(tmp_path / "model.safetensors", genotype.network(), description)
        if scores:
            (tmp_path / "scores.csv").write_text(scores)
        out = tmp_path / "new" / "card.md"
        assert write_card(model, out, evaluation=tmp_path / "scores.csv" if scores else None) == out
        return out.read_text()

    return card


def section(text, heading):
    return re.search(rf"^## {heading}\n\n(.*?)(\n\n## |\Z)", text, re.DOTALL | re.MULTILINE)[1]


def test_the_architecture(card):
    text = card()
    assert "---\n\n# Restoration network: derain, desnow\n" in text
    architecture = section(text, "Architecture")
    genotype = Genotype.sample(RestorationSpace(towers={"derain": tower(), "desnow": tower()}), seed=1)
    network = genotype.network()
    whole, alone = (sum(p.numel() for p in n.parameters()) for n in (network, network.towers["derain"]))
    assert f"{whole:,} parameters" in architecture
    assert "M MACs at 64x64" in architecture
    assert "Stitches between the towers: layer. Fusion into the blind output: mask." in architecture
    gates = [name for label, name in genotype.choices.items() if label.startswith("derain/")]
    (row,) = [line for line in architecture.splitlines() if line.startswith("| derain")]
    assert f"| {alone:,} |" in row
    for name in set(gates):
        assert f"{name} {gates.count(name)}" in row.replace("\\", "")


def test_the_training_and_its_images(card):
    text = card(training=TRAINING, degradations=SEEN)
    assert {"- `seed`: `7`", "- `steps`: `900`", "- `manas`: `0.1.0`"} <= set(
        section(text, "Training").splitlines()
    )
    images = section(text, "Training images").splitlines()
    assert images[0].startswith("- `derain`: generated rain of the family mixed, all levels, on photographs")
    assert "without the backgrounds of `rain100`" in images[0]
    assert images[1].startswith(
        "- `desnow`: generated snow of the family mixed, levels heavy, on photographs that"
    )
    assert images[2] == "- how many: unknown, the file does not say"
    assert "somewhere" not in text
    counted = card(training=TRAINING | {"backgrounds": {"kept": 38, "held": 5}}, degradations=SEEN)
    assert "- how many: 38 pictures to train on, 5 for validation" in section(counted, "Training images")


def test_steps_that_were_left_out(card):
    broken = {"steps_left_out": 60, "broken_gradients": "stem.0.weight 60"}
    (said,) = [
        line for line in section(card(training=TRAINING | broken), "Training").split("\n") if "left" in line
    ]
    assert said.startswith("- `60 of 900 steps were left out, since the gradient was not finite or far beyond")
    assert said.endswith(": stem.0.weight 60`")
    assert "left" not in section(card(training=TRAINING | {"steps_left_out": 0}), "Training")
    odd = {"steps_left_out": 2, "broken_gradients": ["x"], "steps": None}
    assert "2 steps were left out" in section(card(training=odd), "Training")


def test_pairs_and_what_another_version_wrote(card):
    pairs = {"task": "derain", "pairs": {"clean": "/x/norain", "heavy": "/x/rainy"}, "weight": 3}
    text = card(degradations={"derain": [pairs], "desnow": [{"task": "desnow", "sleet": True}]})
    images = section(text, "Training images").splitlines()
    assert images[0] == "- `derain`: pairs of `norain`, `rainy`, all levels; drawn with weight 3"
    assert images[1] == '- `desnow`: `{"task": "desnow", "sleet": true}`'
    assert "generated weather" not in section(text, "Limits")


def test_what_the_file_does_not_say_is_unknown(card):
    text = card()
    unknown = "Unknown: the file does not say."
    assert section(text, "Training images") == unknown
    assert f"Validation while training. {unknown}" in section(text, "Scores")
    assert "No evaluation was given" in section(text, "Scores")
    assert "unknown" in section(text, "Licence")
    limits = section(text, "Limits")
    assert "steps" not in limits
    assert "weather" not in limits


def test_limits_follow_from_the_facts(card):
    limits = section(card(training=TRAINING, degradations=SEEN), "Limits")
    assert "Its towers are for `derain`, `desnow`." in limits
    assert "Trained on generated weather alone." in limits
    assert "No sensor noise and no JPEG marks" in limits
    assert "Trained for 900 steps; the shortest of the papers' protocols has 37,500." in limits
    assert "No score on images that are not of its training is known" in limits
    camera = {"derain": [RAIN | {"capture": {"jpeg": [50, 90]}}]}
    limits = section(card(training={"steps": 40_000}, degradations=camera), "Limits")
    assert "JPEG" not in limits
    assert "40,000" not in limits


def test_scores(card):
    text = card(SCORES, training=TRAINING)
    scores = section(text, "Scores")
    assert "| all | 31.23 |" in scores
    assert "| derain | 30.13 |" in scores
    assert "3 images, protocol derain" in scores
    assert re.search(r"\| rain \| 2 \| 23\.00 \| 27\.00", scores)
    limits = section(text, "Limits")
    assert "It makes `snow, light` worse: 25.00 dB become 23.50 dB." in limits
    assert "It makes `rain" not in limits
    assert "No score" not in limits


def test_the_scores_of_the_input_stand_beside_those_of_the_validation(card):
    inputs = {"input": 28.0, "input/derain": 30.5}
    scores = section(card(training={**TRAINING, "validation": TRAINING["validation"] | inputs}), "Scores")
    assert "| task | PSNR | input | gain |" in scores
    assert "| all | 31.23 | 28.00 | +3.23 |" in scores
    assert "| derain | 30.13 | 30.50 | -0.37 |" in scores


def test_the_first_measure_says_what_it_makes_worse(card, monkeypatch):
    error = replace(PSNR, name="mae", label="MAE", unit="levels", higher_is_better=False)
    monkeypatch.setitem(PROTOCOLS, "derain", replace(PROTOCOLS["derain"], measures=(error, SSIM)))
    limits = section(card(SCORES.replace("psnr", "mae")), "Limits")
    assert "It makes `rain, light` worse: 26.00 levels become 30.00 levels." in limits
    assert "It makes `snow" not in limits


def of_model(name):
    header, *rows = SCORES.splitlines()
    return "\n".join([f"{header},model", *(f"{row},{name}" for row in rows)])


def test_the_model_that_was_scored_is_named(card):
    assert "\n\nScores of `model.safetensors`.\n\n" in card(of_model("/somewhere/model.safetensors"))
    assert "Scores of a model that the file of scores does not name." in card(SCORES)
    assert "Scores of" not in card()


def test_scores_of_another_model_are_refused(card):
    with pytest.raises(ManasError, match=r"scores\.csv: scores of runs/other\.safetensors, not of model\.safe"):
        card(of_model("runs/other.safetensors"))


def test_a_run_directory_stands_for_its_model(card, tmp_path):
    text = card()
    assert write_card(tmp_path, tmp_path / "again.md").read_text() == text


def test_what_a_file_says_is_no_markup(card):
    hostile = {"note<b>": "`</code><script>\n# Heading", "steps": 1}
    training = section(card(training=hostile), "Training").splitlines()
    assert training[0] == "- `note<b>`: `′</code><script> # Heading`"


def test_scores_that_cannot_be_read(card):
    with pytest.raises(ManasError, match=r"scores\.csv"):
        card("a,b\n1,2\n")


def test_scores_of_another_file_of_the_same_name_are_refused(card, tmp_path):
    card()
    other = tmp_path / "other" / "model.safetensors"
    other.parent.mkdir()
    other.write_bytes((tmp_path / "model.safetensors").read_bytes())
    header, *rows = SCORES.splitlines()
    lines = [f"{header},data,model", *(f"{row},data/rain,{other}" for row in rows)]
    with pytest.raises(ManasError, match=r"scores of \S+other/model\.safetensors, not of model\.safetensors"):
        card(scores="\n".join(lines))


def test_a_tower_that_was_given_is_named_by_what_it_is(tmp_path):
    given = Genotype.sample(tower(), seed=2)
    towers = {"derain": tower(), "desnow": {"kind": "decided", "space": given.space, "chosen": given.choices}}
    genotype = Genotype.sample(RestorationSpace(towers=towers, fusion="searched"), seed=1)
    model = save_model(tmp_path / "model.safetensors", genotype.network(), ModelDescription(genotype=genotype))
    text = write_card(model, tmp_path / "card.md").read_text()
    assert "decided" not in text
    assert "made by hand" not in text
    assert f"Found by search: fusion: {genotype.choices['fusion']} 1." in text


def test_smaller_photographs_and_the_traces_of_a_camera(card):
    traced = {"shrink": 4, "capture": {"noise": [0, 4], "jpeg": [70, 98]}}
    images = section(card(degradations={"derain": [RAIN | traced]}), "Training images")
    assert "scaled down by up to 4, with sensor noise of 0 to 4 of 255 and JPEG of quality 70 to 98" in images


class TestFrontMatter:
    def test_of_an_unscored_model(self, card):
        content = read_front_matter(card(training=TRAINING))
        assert content == {
            "library_name": "manas",
            "pipeline_tag": "image-to-image",
            "tags": ["image-restoration", "derain", "desnow"],
        }

    def test_scores_come_back_as_they_were(self, card):
        text = card(SCORES, training=TRAINING | {"license": "cc0-1.0", "credit": "Ansel Adams, [CC0](x)"})
        content = read_front_matter(text)
        assert content["license"] == "cc0-1.0"
        (model,) = content["model-index"]
        assert model["name"] == "model"
        assert all({"task", "dataset", "metrics"} == result.keys() for result in model["results"])
        found = {(each.images, each.measure): (each.before, each.after) for each in listed(content)}
        assert found["rain, light (1 images)", "psnr (derain)"] == (26.0, 30.0)
        assert found["snow, light (1 images)", "ssim (derain)"] == (0.7, 0.65)
        assert len(found) == 6  # without the mean over the levels of rain
        assert "Of the weights: `cc0-1.0`." in section(text, "Licence")
        assert "`Ansel Adams, [CC0](x)`" in section(text, "Training images")

    @pytest.mark.parametrize("text", ["", "# A card\n", "---\n- a list\n---\n"])
    def test_a_card_without(self, text):
        assert read_front_matter(text) == {}
