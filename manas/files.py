"""Strict reading of files that people write, and writing that leaves no incomplete file."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from manas.errors import ManasError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path, which becomes `path` when the block ends well and is removed if it does not.

    Parents are created. The temporary name is hidden, unique, and short even if the name of `path` is long.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:40]}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Gives a temporary folder, which replaces `folder` when the block ends well and is removed if it does not.

    The former content of `folder` stays until then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name[:40]}.{uuid.uuid4().hex}")
    temporary.mkdir()
    former = temporary.with_name(f"{temporary.name}.former")
    try:
        yield temporary
        if folder.exists():  # a folder that is not empty cannot be replaced in one call
            os.replace(folder, former)
        os.replace(temporary, folder)
    except BaseException:  # an interruption between the two moves, too
        if former.exists() and not folder.exists():
            os.replace(former, folder)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def stamp(path: Path) -> str:
    """The path, size and time of a file, by which its content is known without being read.

    Raises:
        OSError: if there is no such file.
    """
    status = path.stat()
    return f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"


def read_yaml(file: Any, where: str) -> Any:
    """Reads a YAML file, given as a path or as a resource of a package.

    Raises:
        ManasError: if it cannot be read, is not valid YAML, or gives a key twice.
    """
    try:
        return _StrictLoader(file.read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        raise ManasError(f"{where}: cannot be read ({error.strerror}); give an existing YAML file") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: text that is no UTF-8, an impossible date
        raise ManasError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice; PyYAML's own silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        twice = next((key for place, key in enumerate(keys) if key in keys[:place]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice!r} is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep)
