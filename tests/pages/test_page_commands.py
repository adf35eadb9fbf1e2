"""Every command line of the pages is one that the programs take, and every file in it is there or was made."""

import re
import subprocess
from pathlib import Path

import pytest
from pages.shown import PAGES, REPOSITORY, code_spans, commands, content, prose
from typer.main import get_command

from manas.architecture.finding import load_space, presets
from manas.commands.main import _by_task, _front, app
from manas.config import read_config
from manas.models import installed_models
from manas.searching.config import SearchConfig
from manas.training.config import RetrainConfig

APP = get_command(app)
CONFIGS = {"search": SearchConfig, "retrain": RetrainConfig}
# The parameters of all commands that name files to read, and those that name files to write.
READ = ["roots", "config", "source", "evaluation", "images", "model", "data", "models", "folders"]
READ += ["photographs", "one", "other", "restored", "reference", "file", "a", "b", "checkpoint"]
WRITTEN = ["out", "csv", "markdown", "latex", "picture", "gallery"]
OF_A_RUN = ("", "genotype.json", "model.safetensors", "checkpoint.pt")  # what a run directory holds
OTHERS = ("pip", "make", "mkdir", "cp", "torchrun", "python")


def parsed(words):
    """Name and parameters of a command of `manas`; typer refuses what it does not know."""
    command, context, name = APP, APP.make_context("manas", list(words), resilient_parsing=True), []
    while hasattr(command, "resolve_command"):
        found, command, words = command.resolve_command(context, list(words))
        name.append(found)
        group = hasattr(command, "resolve_command")
        context = command.make_context(found, list(words), parent=context, resilient_parsing=group)
    return " ".join(name), context.params


def listed(value):
    several = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return [str(item) for item in several]


def settings(name, params):
    """The configuration of a search or a retraining, checked as the program checks it."""
    overrides = [*listed(params["set"])]
    if name == "search":
        overrides = [*_front(params["front"]), *overrides]
    if name == "retrain":
        overrides += _by_task("genotype", listed(params["genotype"]))
        overrides += _by_task("init", listed(params["init"]))
    return read_config(CONFIGS[name], params["config"], overrides)


def of_data(source):
    """The files that a source of a configuration names."""
    folders = [] if source.photographs == "builtin" else [source.photographs]
    return [*folders, *listed(source.pairs), *source.exclude]


def may_hold(folder, path):
    """A run directory holds files of few names; any other folder may hold anything."""
    return not folder.startswith("runs/") or path.removeprefix(folder).lstrip("/") in OF_A_RUN


class Shell:
    """Knows which files are there while the commands of a page are given in their order."""

    def __init__(self, page):
        self.page, self.made = page, set()

    def require(self, path):
        """Refuses a file that neither is in the repository, nor was made, nor is the reader's by the words."""
        path = str(path).rstrip("/")
        folders = [str(folder) for folder in (Path(path), *Path(path).parents)]
        there = self.made | {span.strip("'").rstrip("/") for span in code_spans(self.page)}
        known = any(folder in there and may_hold(folder, path) for folder in folders)
        known = known or path in installed_models()
        assert known or (REPOSITORY / path).exists(), f"{self.page}: where does {path} come from?"

    def run(self, words):
        """Checks one command and notes what it makes."""
        if words[0] == "torchrun":
            words = ["python", *words[next(n for n, word in enumerate(words) if word.endswith(".py")) :]]
        program = words[0].rpartition("/")[2]
        if program == "manas":
            return self._manas(words[1:])
        assert program in OTHERS, f"{self.page}: {program} is not known to this test"
        return getattr(self, f"_{program}")(words[1:])

    def _manas(self, words):
        name, params = parsed(words)
        for key in READ:
            for path in listed(params.get(key)):
                self.require(path)
        if params.get("space"):
            load_space(params["space"])
        if name in CONFIGS:
            self._training(name, params)
        self.made |= {path.rstrip("/") for key in WRITTEN for path in listed(params.get(key))}

    def _training(self, name, params):
        config = settings(name, params)
        for source in config.data.sources:
            for path in of_data(source):
                self.require(path)
        for given in [*listed(params.get("genotype")), *listed(params.get("init"))]:
            path = given.rpartition("=")[2]
            if path not in presets():
                self.require(path)
        self.made.add(config.run)

    def _python(self, words):
        script, *rest = words
        if script == "-m":  # of Python's own; what it is given is in the repository
            for word in rest:
                assert "/" not in word or (REPOSITORY / word).exists(), f"{self.page}: {word}"
            return None
        assert (REPOSITORY / script).exists(), f"{self.page}: {script}"
        if script.startswith("experiments/") and Path(script).stem in ("search", "retrain", "export"):
            return self._manas([Path(script).stem, *rest])
        if script == "experiments/onnx_example.py":
            self.made.add(rest.pop())
        for word in rest:
            if word.startswith("--"):
                assert f'"{word}"' in content(script), f"{script} has no {word}"
            elif not re.fullmatch(r"[\d.]+", word):
                self.require(word)
        return None

    def _pip(self, words):
        self.require(words[words.index("-c") + 1])

    def _make(self, words):
        for target in words:
            assert re.search(rf"^{target}:", content("Makefile"), re.M), target
        self.made |= {"runs/demo"} if "demo" in words else set()

    def _mkdir(self, words):
        self.made.add(words[-1])

    def _cp(self, words):
        self.require(words[-1])


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_taken_and_finds_its_files(page, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.syspath_prepend(REPOSITORY)
    shell = Shell(page)
    for words in commands(page):
        shell.run(words)


def test_the_folders_of_the_readme_are_ignored_by_git():
    """And none of the repository's own that has such a name."""
    of_a_reader = [
        f"{folder}/1.png" for folder in ("data/rain/clean", "photos", "restored", "runs/search/samples")
    ]
    ours = ["manas/data/images.py", "manas/photos/png.py", "tests/data/test_photographs.py"]
    asked = ["git", "check-ignore", "--no-index", *of_a_reader, *ours]
    answer = subprocess.run(asked, cwd=REPOSITORY, capture_output=True, text=True)
    if answer.returncode not in (0, 1):
        pytest.skip("this is no clone")
    assert answer.stdout.split() == of_a_reader


def options(command):
    inner = (option for each in getattr(command, "commands", {}).values() for option in options(each))
    return {option for param in command.params for option in param.opts} | {*inner}


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_in_the_text_exist(page):
    for span in code_spans(page):
        first, *rest = span.split()
        if first == "manas" and rest:
            command = APP
            while rest and hasattr(command, "commands"):
                assert rest[0] in command.commands, f"{page}: {span}"
                command = command.commands[rest.pop(0)]
        for word in span.split():
            if re.match("--.", word):
                assert word in options(APP), f"{page}: {word}"


def test_no_command_hides_in_a_block_that_is_not_checked():
    """Indented blocks are not checked, so there are none."""
    hidden = re.compile(r"\n\n {4}(?:\S*/)?(?:manas|python|make|torchrun|pip)\b")
    assert not [page for page in PAGES if hidden.search(prose(page))]
