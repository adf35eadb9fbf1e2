"""Folders that take another's place: nothing is lost, nothing half-written stays."""

import os

import pytest

from manas.files import building


@pytest.mark.parametrize("failing", [1, 2])
def test_what_a_folder_held_is_back_if_it_cannot_be_replaced(tmp_path, monkeypatch, failing):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "kept.txt").write_text("kept")
    replace, calls = os.replace, []

    def fails_once(source, target):
        calls.append(source)
        if len(calls) == failing:
            raise OSError("cannot be renamed")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_once)
    with pytest.raises(OSError, match="cannot be renamed"), building(folder) as temporary:
        (temporary / "new.txt").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in folder.iterdir()] == ["kept.txt"]
