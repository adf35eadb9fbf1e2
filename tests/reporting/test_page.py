"""The report of a run: whole, self-contained, true to the files, and indifferent to what is missing."""

import base64
import json
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from training.tiny_runs import RAIN, SNOW, retrain_config, search_config

import manas
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.reporting.progress import Progress
from manas.reporting.report import sections
from manas.reporting.report.page import write_report
from manas.reporting.report.record import Record
from manas.restoration.model_file import ModelDescription, load_model, save_model
from manas.training.guard import Guard
from manas.training.validation import beside_input

VOID = {"meta", "img", "br", "link", "input", "hr"}
NASTY = "<script>alert('a & b')</script> \"quoted\" ☂"
ANY_RUN = ["Architecture", "Restoration", "Losses", "Samples", "Configuration", "Environment"]
OF_GRADIENT = ["Decisions", "Shares of the candidates", "Gradient and curvature", "Cost"]
HEADINGS = {
    "gradient": ["Verdict", *ANY_RUN[:3], *OF_GRADIENT, *ANY_RUN[3:]],
    "random": ["Verdict", *ANY_RUN[:2], "Cost and score", ANY_RUN[2], *ANY_RUN[4:]],
    "evolution": ["Verdict", *ANY_RUN],
    "retraining": ["Result", *ANY_RUN[:3], "Stitches", *ANY_RUN[3:]],
}


class OwnSpace(SearchSpace):
    """A space that no entry point names."""

    def build(self, decide):
        return decide("layer", {"wide": torch.nn.Identity, "narrow": torch.nn.Identity})


class Page(HTMLParser):
    """What a browser would make of a page: elements with their attributes and all text in them."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.text, self.open, self.elements = text, [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names))
        made = {"tag": tag, "text": "", **dict(attributes)}
        self.elements.append(made)
        if tag not in VOID:
            self.open.append(made)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for each in self.open:
            each["text"] += data

    def all(self, tag, **attributes):
        return [e for e in self.elements if e["tag"] == tag and attributes.items() <= e.items()]

    def texts(self, tag):
        return [each["text"] for each in self.all(tag)]


def page_of(run):
    return Page(write_report(run).read_text(encoding="utf-8"))


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def series(run, name):
    return [line[name] for line in metrics(run) if name in line]


def genotype(run):
    return json.loads((run / "genotype.json").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each kind, by name, as its program left it."""
    folder, threads = tmp_path_factory.mktemp("runs"), torch.get_num_threads()
    torch.set_num_threads(1)
    made = {name: folder / name for name in HEADINGS}
    manas.search(search_config(run=str(made["gradient"]), budget={"macs": "250k"}))
    manas.search(search_config(run=str(made["random"]), method={"kind": "random", "candidates": 3}))
    small = {"kind": "evolution", "evaluations": 3, "population": 2, "tournament": 1}
    manas.search(search_config(run=str(made["evolution"]), method=small))
    genotypes = {"derain": made["gradient"] / "genotype.json", "desnow": made["random"] / "genotype.json"}
    config = {"run": str(made["retraining"]), "data": {"sources": [RAIN, SNOW]}}
    manas.retrain(retrain_config({task: str(path) for task, path in genotypes.items()}, **config))
    torch.set_num_threads(threads)
    return made


@pytest.fixture(scope="module")
def pages(runs):
    """The report that each of them has written."""
    return {name: Page((run / "report.html").read_text(encoding="utf-8")) for name, run in runs.items()}


@pytest.fixture
def run(runs, tmp_path):
    """A copy of the run by gradient, to be changed."""
    return Path(shutil.copytree(runs["gradient"], tmp_path / "run"))


@pytest.fixture
def short_run(run):
    """One without numbers, whose page is made sooner."""
    (run / "metrics.jsonl").unlink()
    return run


@pytest.fixture(params=HEADINGS)
def kind(request):
    return request.param


def test_the_same_directory_gives_the_same_bytes(runs):
    for run in (runs["gradient"], runs["retraining"]):
        assert (run / "report.html").read_bytes() == write_report(run).read_bytes()
        assert not list(run.glob(".report*"))


def test_everything_is_there_in_order(pages, kind):
    page = pages[kind]
    assert page.texts("h2") == HEADINGS[kind]
    title = {"retraining": "Retraining of restoration", "random": "Search of multi_scale_attentive at random"}
    expected = title.get(kind, f"Search of multi_scale_attentive by {kind}")
    assert page.texts("h1") == [expected]
    assert page.texts("title") == [f"{expected} ({kind})"]
    pictures = page.all("svg")
    assert len(pictures) == len(page.texts("figcaption")) + 1 - len(page.all("img"))
    assert all(each["role"] == "img" and each["aria-label"] for each in pictures)
    assert all(each["alt"] for each in page.all("img"))


def test_the_page_needs_and_loads_nothing(pages, kind):
    page = pages[kind]
    ids = [each["id"] for each in page.elements if "id" in each]
    assert len(ids) == len(set(ids)) > 10
    assert not page.all("script") + page.all("link") + page.all("iframe")
    for each in page.elements:
        for name, value in each.items():
            assert name in ("text", "d") or "://" not in (value or "")
            assert not name.startswith("on")
            if name == "src":
                assert value.startswith("data:image/png;base64,")
            if name == "href":
                assert value.removeprefix("#") in ids
            if name not in ("text", "d") and value and "url(" in value:
                assert value.split("url(#")[1].split(")")[0] in ids
    assert len(page.all("style")) == 1
    assert "url(" not in page.texts("style")[0]
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in policy[0]["content"]


def test_every_sentence_of_the_verdict_is_there(runs, pages, kind):
    page = pages[kind]
    if kind == "retraining":
        with safe_open(runs[kind] / "model.safetensors", framework="np") as file:
            training = json.loads(file.metadata()["manas"])["training"]
        best, scores = max(series(runs[kind], "validation/psnr")), training["validation"]
        assert page.texts("li") == [
            f"the best network by validation is that of epoch {training['epoch']}: {best:.2f} dB, "
            f"{best - scores['input']:+.2f} on the input "
            f"(derain: {beside_input(scores['psnr/derain'], scores['input/derain'])}; "
            f"desnow: {beside_input(scores['psnr/desnow'], scores['input/desnow'])})"
        ]
        return
    said = genotype(runs[kind])["provenance"]["verdict"]
    assert page.texts("li") == said
    assert sum(sentence.startswith("budget: ") for sentence in said) == (kind == "gradient")


def test_numbers_agree_with_the_files(runs, pages):
    run, page = runs["gradient"], pages["gradient"]
    captions = " ".join(page.texts("figcaption"))
    last = metrics(run)[-1]
    assert f"relaxed {last['validation/psnr_relaxed']:.2f} dB" in captions
    assert f"one-hot {last['validation/psnr_one_hot']:.2f} dB" in captions
    assert f"a gap (shaded) of {last['validation/discretisation_gap']:.2f} dB" in captions
    assert f"dominant eigenvalue of their Hessian {last['health/eigenvalue']:.3g}" in captions
    assert f"gradient of the alphas {last['health/alpha_gradient']:.3g}" in captions
    assert f"{last['health/cost'] / 250e3:.1%} of the budget of 250.00 k MACs" in captions
    for name, value in last.items():
        if name.startswith("entropy/"):
            assert f"entropy of {name.removeprefix('entropy/')} {value:.2f}" in captions
        if name.startswith("shares/"):
            assert f"{name.rpartition('/')[2]} {value:.2f}" in captions
    provenance = genotype(run)["provenance"]
    assert f"{provenance['parameters']:,}" in page.texts("dd")
    assert f"{provenance['macs']:,} for an image of 16 x 16" in page.texts("dd")
    share = provenance["compute_judging"] / provenance["compute"]
    compute = f"{provenance['compute']:,} MACs, {share:.0%} of them for scores and not for training"
    assert compute in page.texts("dd")


def test_numbers_of_the_others_agree_with_the_files(runs, pages):
    scores = series(runs["random"], "validation/psnr_of_a_candidate")
    captions = " ".join(pages["random"].texts("figcaption"))
    assert f"best {max(scores):.2f} dB (candidate {scores.index(max(scores))})" in captions
    assert f"median {sorted(scores)[1]:.2f} dB, worst {min(scores):.2f} dB" in captions
    captions = " ".join(pages["evolution"].texts("figcaption"))
    assert f"a path {series(runs['evolution'], 'validation/psnr_of_a_path')[-1]:.2f} dB" in captions
    captions = " ".join(pages["retraining"].texts("figcaption"))
    for name, key in {"all": "psnr", "derain": "psnr/derain", "desnow": "psnr/desnow"}.items():
        assert f"{name} {series(runs['retraining'], f'validation/{key}')[-1]:.2f} dB" in captions


def test_the_table_holds_every_choice_with_its_probability(runs, pages):
    run, found = runs["gradient"], genotype(runs["gradient"])
    at_end = next(line for line in reversed(metrics(run)) if "validation/psnr_one_hot" in line)
    rows = [
        f"{label}{name}{at_end[f'probabilities/{label}/{name}']:.3f}{found['provenance']['decided_by'][label]}"
        for label, name in found["choices"].items()
    ]
    assert pages["gradient"].texts("tr") == ["forkchoiceprobabilitydecided by", *rows]
    assert pages["random"].texts("tr")[1:] == [
        label + name for label, name in genotype(runs["random"])["choices"].items()
    ]
    assert len(pages["retraining"].texts("tr")) == 1 + 2 * len(found["choices"])


def test_the_probability_is_that_of_the_epoch_of_the_result(run):
    found = genotype(run)
    found["provenance"]["epoch"] = 0
    (run / "genotype.json").write_text(json.dumps(found))
    first = next(line for line in metrics(run) if "validation/psnr_one_hot" in line)
    label, name = next(iter(found["choices"].items()))
    row = f"{label}{name}{first[f'probabilities/{label}/{name}']:.3f}{found['provenance']['decided_by'][label]}"
    assert page_of(run).texts("tr")[1] == row


def test_the_first_and_the_last_sheet_are_in_the_page(runs, pages, short_run):
    sheets = sorted((short_run / "samples").iterdir())
    assert len(sheets) == 2
    shutil.copy(sheets[0], short_run / "samples" / "epoch_0010.png")
    for page, last in ((pages["gradient"], sheets[1]), (page_of(short_run), sheets[0])):
        images = page.all("img")
        held = [base64.b64decode(each["src"].partition(",")[2]) for each in images]
        assert held == [sheets[0].read_bytes(), last.read_bytes()]
    assert [each["alt"].split(",")[0] for each in images] == ["Epoch 0", "Epoch 10"]
    assert [(each["width"], each["height"]) for each in images] == [("48", "32")] * 2


def test_one_sheet_is_shown_once(short_run):
    sorted((short_run / "samples").iterdir())[1].unlink()
    assert len(page_of(short_run).all("img")) == 1


def test_the_configuration_is_there_as_it_stands_in_its_file(runs, pages, kind):
    page = pages[kind]
    assert page.texts("pre") == [(runs[kind] / "config.yaml").read_text()]
    environment = json.loads((runs[kind] / "environment.json").read_text())
    assert f"torch {environment['torch']}" in page.text
    assert "config.yaml" in page.texts("summary")


def test_texts_of_a_run_are_texts(short_run):
    run = short_run
    config = (run / "config.yaml").read_text().replace(f"run: {run.parent}", "run: x")
    (run / "config.yaml").write_text(f"run: {json.dumps(NASTY)}\n" + config.split("\n", 1)[1])
    found = genotype(run)
    found["provenance"]["verdict"] = [NASTY, "a & b", "1 < 2"]
    (run / "genotype.json").write_text(json.dumps(found))
    (run / "environment.json").write_text(json.dumps({"platform": NASTY, "torch": NASTY, "\ud800": "\ud800"}))
    page = page_of(run)
    assert page.texts("li") == [NASTY, "a & b", "1 < 2"]
    assert not page.all("script")
    assert "<script" not in page.text
    assert page.texts("p")[0].startswith(NASTY)
    assert NASTY in page.texts("dd")


def test_names_of_a_space_are_texts(run):
    found = genotype(run)
    found["choices"] = {NASTY: NASTY, "plain": "name"}
    (run / "genotype.json").write_text(json.dumps(found))
    lines = [{**line, f"shares/{NASTY}/{NASTY}": 0.5, f"entropy/{NASTY}": 0.5} for line in metrics(run)]
    lines = [{**line, f"weights/global/{NASTY}": 1.0} for line in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = page_of(run)
    assert page.texts("tr")[1:] == [NASTY + NASTY, "plainname"]
    assert not page.all("script")
    assert page.texts("h2") == HEADINGS["gradient"]


MISSING = {
    "metrics.jsonl": ["Restoration", "Losses", *OF_GRADIENT],
    "genotype.json": ["Verdict", "Architecture"],
    "samples": ["Samples"],
    "config.yaml": ["Configuration"],
    "environment.json": ["Environment"],
    "cost.json": [],
}


@pytest.mark.parametrize(
    "names",
    [["metrics.jsonl"], ["genotype.json"], ["config.yaml"], ["samples", "environment.json", "cost.json"]],
)
def test_what_is_missing_is_left_out(names, run):
    for name in names:
        (run / name).rename(run.parent / name)
    gone = [heading for name in names for heading in MISSING[name]]
    assert page_of(run).texts("h2") == [h for h in HEADINGS["gradient"] if h not in gone]


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00\xfe{", b"[1, 2]", b"{", b"- a\n- b: [", b'{"a": ' * 100000]
)
def test_what_is_damaged_is_as_if_it_were_missing(content, run):
    for name in MISSING:
        if name != "samples":
            (run / name).write_bytes(content)
    record = Record(run)
    assert not any((record.metrics, record.config, record.environment, record.found, record.summary))
    assert not any((record.space, record.choices, record.genotype(), record.cost(), record.method))
    assert [h for h in page_of(run).texts("h2") if h != "Configuration"] == ["Samples"]


def test_an_empty_directory_has_a_page(tmp_path):
    page = page_of(tmp_path)
    assert page.texts("h1") == ["Search"]
    assert not page.texts("h2")


@pytest.mark.parametrize(
    "torn", ['{"step": 7, "validation/psnr_rel', "null", '{"step": null, "rate": 3}', "{}", "\0"]
)
def test_a_line_that_was_torn_off_changes_nothing(torn, run):
    before = Record(run).metrics
    with open(run / "metrics.jsonl", "a") as file:
        file.write(torn)
    after = Record(run).metrics
    assert after.keys() == before.keys()
    for name, of in before.items():
        np.testing.assert_array_equal(of, after[name])


def test_a_damaged_sheet_is_left_out(short_run):
    run = short_run
    first, last = sorted((run / "samples").iterdir())
    last.write_bytes(last.read_bytes()[:200])
    assert [each["alt"].split(",")[0] for each in page_of(run).all("img")] == ["Epoch 0"]
    first.write_bytes(b"")
    assert "Samples" not in page_of(run).texts("h2")


def test_a_damaged_model_is_left_out(runs, tmp_path):
    run = Path(shutil.copytree(runs["retraining"], tmp_path / "run"))
    model = run / "model.safetensors"
    model.write_bytes(model.read_bytes()[:100])
    page = page_of(run)
    assert page.texts("h1") == ["Retraining"]
    assert page.texts("h2") == [
        "Restoration",
        "Losses",
        "Stitches",
        "Samples",
        "Configuration",
        "Environment",
    ]


def test_numbers_of_odd_kinds_do_no_harm(run):
    odd = [None, float("nan"), float("inf"), "text", [1], {"a": 1}, True, 10**400, -1e299, 0]
    names = [
        "validation/psnr_one_hot",
        "weights/global/mse",
        "health/cost",
        "health/eigenvalue",
        "alphas/multiplier",
    ]
    lines = [{**metrics(run)[-1], **dict.fromkeys(names, value)} for value in odd]
    with open(run / "metrics.jsonl", "a") as file:
        file.writelines(json.dumps({**line, "step": 6 + 3 * n}) + "\n" for n, line in enumerate(lines, 1))
    assert page_of(run).texts("h2") == HEADINGS["gradient"]


def test_a_verdict_of_another_form_is_no_harm(short_run):
    run, found = short_run, genotype(short_run)
    for verdict in (None, "text", 3, [1, None], {}):
        found["provenance"]["verdict"] = verdict
        (run / "genotype.json").write_text(json.dumps(found))
        assert page_of(run).texts("h2") == ["Architecture", "Samples", "Configuration", "Environment"]


def test_what_goes_wrong_costs_one_section_and_is_said(short_run, monkeypatch):
    def fail(_):
        raise RuntimeError("no picture today")

    monkeypatch.setattr(sections, "read_image", fail)
    with pytest.warns(
        UserWarning, match=r"the report goes without samples: RuntimeError\('no picture today'\)"
    ):
        page = page_of(short_run)
    assert page.texts("h2") == ["Verdict", "Architecture", "Configuration", "Environment"]


def test_a_genotype_whose_space_is_not_here_has_a_table_but_no_drawing(short_run):
    found = genotype(short_run)
    assert len(page_of(short_run).all("svg")) == 1
    found["space"]["kind"] = "nowhere"
    (short_run / "genotype.json").write_text(json.dumps(found))
    page = page_of(short_run)
    assert len(page.texts("tr")) == 1 + len(found["choices"])
    assert not page.all("svg")


def test_no_code_is_imported_for_a_report(short_run, tmp_path, monkeypatch):
    (tmp_path / "somebodys_code.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    found, theirs = genotype(short_run), {"kind": "somebodys_code:Space"}
    for space in (theirs, {"kind": "restoration", "towers": {"derain": theirs}}):
        (short_run / "genotype.json").write_text(json.dumps({**found, "space": space}))
        page = page_of(short_run)
        assert len(page.texts("tr")) == 1 + len(found["choices"])
        assert not page.all("svg")
        assert "somebodys_code" not in sys.modules


def test_a_space_of_ones_own_is_drawn(tmp_path):
    kind = f"{OwnSpace.__module__}:OwnSpace"
    Genotype(space=OwnSpace(), choices={"layer": "wide"}).write(tmp_path / "genotype.json")
    page = page_of(tmp_path)
    assert page.texts("h1") == [f"Search of {kind}"]
    assert len(page.all("svg")) == 1
    assert "layer" in page.texts("text")


def test_a_report_that_cannot_be_written_leaves_the_old_one(short_run, monkeypatch):
    run = short_run
    before = (run / "report.html").read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
    assert not list(run.glob(".report*"))


class TestStepsLeftOut:
    def test_of_a_retraining(self, runs, tmp_path):
        run = Path(shutil.copytree(runs["retraining"], tmp_path / "run"))
        genotype = load_model(run / "model.safetensors")[1].genotype
        training = {"steps": 400, "steps_left_out": 60, "broken_gradients": "stem.0.weight 60"}
        save_model(
            run / "model.safetensors",
            genotype.network(),
            ModelDescription(genotype=genotype, training=training),
        )
        (said,) = page_of(run).texts("li")
        assert said.startswith("60 of 400 steps were left out, since the gradient")
        assert said.endswith(": stem.0.weight 60")

    def test_of_a_search(self, tmp_path, monkeypatch):
        judge, lines = Guard.judge, []

        def one_broken(self, norms, norm):
            lines.append(norm)
            return judge(self, norms * (1e30 if len(lines) == 2 else 1), norm)

        monkeypatch.setattr(Guard, "judge", one_broken)
        monkeypatch.setattr(Progress, "say", lambda self, text: lines.append(text))
        found = manas.search(search_config(run=str(tmp_path), epochs=1))
        said = found.provenance["verdict"][-1]
        assert said.startswith("1 step was left out, since the gradient was not finite or far beyond")
        assert said in page_of(tmp_path).texts("li")
        (epoch,) = [line for line in lines if str(line).startswith("epoch 0: ")]
        assert "; 1 step left out so far (" in epoch
