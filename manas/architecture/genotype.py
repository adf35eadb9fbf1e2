"""Genotype: an architecture as a JSON file that says everything needed to build it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from torch import nn

from manas.architecture.finding import AnySpace
from manas.architecture.forks import random_choices
from manas.architecture.space import SearchSpace
from manas.errors import ManasError, explain
from manas.files import replacing

Format = Literal["manas.genotype/1"]
FORMAT: Format = "manas.genotype/1"


class Genotype(BaseModel):
    """One architecture of a space: the space itself, and the candidate chosen at every fork reached.

    Attributes:
        space: the space, with its whole configuration.
        choices: label -> name of the candidate; exactly the labels that this path asks for.
        provenance: where it comes from (versions, seed, epoch, parameters, MACs, PSNR); free form.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Format = FORMAT
    space: AnySpace
    choices: dict[str, str]
    provenance: dict[str, Any] = {}

    @model_validator(mode="after")
    def _is_one_path(self) -> Genotype:
        self.space.check(self.choices)
        return self

    @classmethod
    def sample(cls, space: SearchSpace, seed: int) -> Genotype:
        """A genotype of a space whose every reached fork is drawn uniformly, a function of the seed."""
        choices = random_choices(space.forks(), random.Random(seed))
        return cls(space=space, choices=choices, provenance={"sampled_with_seed": seed})

    def network(self) -> nn.Module:
        """The derived network, with fresh weights."""
        return self.space.network(self.choices)

    def to_json(self) -> str:
        """The JSON text, with a final newline."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    def write(self, path: str | Path) -> Path:
        """Writes the JSON file; it is complete or not there."""
        path = Path(path)
        with replacing(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")
        return path

    @classmethod
    def from_json(
        cls,
        text: str,
        *,
        where: str = "genotype",
        space: type[SearchSpace] | None = None,
        trusted: bool = False,
    ) -> Genotype:
        """Reads what `to_json` wrote.

        Args:
            where: the file that errors name.
            space: the class of a space that no entry point names.
            trusted: whether the text may name code to import; only for what this program wrote itself.

        Raises:
            ManasError: for text that is no genotype of this format, or does not fit its space.
        """
        content = _parse(text, where)
        try:
            return cls.model_validate(content, context={"trusted": trusted, "given": space})
        except ValidationError as error:
            raise explain(error, cls, where) from error

    @classmethod
    def read(cls, path: str | Path, *, space: type[SearchSpace] | None = None) -> Genotype:
        """Reads a genotype file; see `from_json`."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise ManasError(f"{path}: cannot be read ({error.strerror}); give a genotype JSON file") from error
        except UnicodeDecodeError as error:
            raise ManasError(f"{path}: not a text file; give a genotype JSON file") from error
        return cls.from_json(text, where=str(path), space=space)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ManasError(f"{where}: not valid JSON ({error}); give a genotype file") from error
    if not isinstance(content, dict) or "format" not in content:
        raise ManasError(f"{where}: not a genotype; its 'format' would be {FORMAT!r}")
    if content["format"] != FORMAT:
        raise ManasError(f"{where}: unknown format {content['format']!r}; this version reads {FORMAT!r}")
    return content
