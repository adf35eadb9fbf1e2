"""`manas models`: what comes with the package is listed, and its card printed."""

from manas.models import DEFAULT, card_of, installed_models


def test_the_list(run):
    code, said, complaint = run("models")
    assert (code, complaint) == (0, "")
    first, *rest = said.splitlines()
    assert first.startswith(f"{DEFAULT}: ")
    assert first.endswith("MB, licence apache-2.0, the default")
    assert any("psnr (derain)" in line and "light" in line for line in rest)


def test_a_card(run):
    assert run("models", DEFAULT) == (0, card_of(DEFAULT).read_text(encoding="utf-8"), "")


def test_an_unknown_name(run):
    code, said, complaint = run("models", "wether")
    assert (code, said) == (2, "")
    assert complaint == f"manas: no installed network is called 'wether'; did you mean {DEFAULT!r}?\n"


def test_its_name_stands_for_its_file(run, tmp_path):
    assert run("export", DEFAULT, tmp_path / "card.md")[0] == 0
    assert f"`{installed_models()[DEFAULT].name}`" in (tmp_path / "card.md").read_text()
    assert run("export", DEFAULT, tmp_path / "genotype.json")[0] == 0
    assert run("genotype", "show", DEFAULT)[0] == 0


def test_a_file_of_that_name_comes_first(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT).write_bytes(b"not a model")
    code, _, complaint = run("export", DEFAULT, tmp_path / "card.md")
    assert code == 2
    assert "not a model file" in complaint
