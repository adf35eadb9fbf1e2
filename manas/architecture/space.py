"""SearchSpace: a program that builds a network and asks `decide` at every fork."""

from __future__ import annotations

import functools
import importlib
import importlib.resources
import math
import operator
import random
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_serializer,
)
from torch import nn

from manas.architecture.choice import (
    Choice,
    Decide,
    Fixed,
    Fork,
    Recorded,
    Relaxed,
    Replayed,
    choices_of,
    relax,
)
from manas.architecture.relaxation import Moment, Relaxation, Softmax, Weighting
from manas.errors import ManasError, explain, nearest
from manas.files import read_yaml

if TYPE_CHECKING:
    from manas.architecture.genotype import Genotype

Reading = Literal["searched", "released"]


class SearchSpace(BaseModel):
    """Base class of every space; its fields are the configuration, `build` is the one method to write.

    `build` must construct the same program for every `decide`: it never reads a tensor's value, nor an
    attribute of what `decide` returned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def build(self, decide: Decide) -> nn.Module:
        """The network, with `decide(label, candidates)` asked at every fork."""
        raise NotImplementedError(f"{type(self).__name__} does not define build(decide)")

    def forks(self) -> list[Fork]:
        """The outermost forks, with those inside their candidates; nothing is allocated."""
        recorded = Recorded()
        with torch.device("meta"):
            self.build(recorded)
        return recorded.forks

    def choices(self) -> dict[str, tuple[str, ...]]:
        """Every label with the names of its candidates, in the order in which the program asks."""
        return dict(_flat(self.forks()))

    def size(self) -> int:
        """Number of architectures; forks that stand inside a candidate count only with it."""
        return _size(self.forks())

    def supernet(self, relaxation: Weighting | None = None, *, recompute: bool = False) -> nn.Module:
        """The network with a `Choice` at every fork.

        Args:
            relaxation: of all choices, at the beginning of its schedule; softmax unless given.
            recompute: the choices keep only their inputs for the backward pass.
        """
        self.forks()  # labels and names are checked before anything is allocated
        relaxation = relaxation or Softmax()
        supernet = self.build(Relaxed(relaxation, recompute=recompute))
        choices = choices_of(supernet)
        if isinstance(relaxation, Relaxation) and choices:
            relax(supernet, relaxation.at(Moment(), choices))
        return supernet

    def network(self, genotype: Genotype | Mapping[str, str] | None = None) -> nn.Module:
        """The derived network, a plain module; a space without forks needs no genotype.

        Raises:
            ManasError: for a genotype of another space, a missing or unknown label, an unknown candidate.
        """
        choices = self._choices_in(genotype)
        fixed = Fixed(choices)
        network = self.build(fixed)
        fixed.require_all_used()
        return network

    def walk(self, decide: Replayed) -> dict[str, str]:
        """The choices along the one path that `decide` picks; nothing is allocated."""
        with torch.device("meta"):
            self.build(decide)
        return decide.choices

    def check(self, choices: Mapping[str, str]) -> None:
        """Raises a `ManasError` unless `choices` is exactly one path through the space."""
        fixed = Fixed(choices)
        self.walk(fixed)
        fixed.require_all_used()

    def sample(self, seed: int) -> Genotype:
        """A genotype whose every reached fork is drawn uniformly, a function of the seed."""
        from manas.architecture.genotype import Genotype

        generator = random.Random(seed)
        choices = self.walk(Replayed(lambda _, names: generator.choice(names)))
        return Genotype(space=self, choices=choices, provenance={"sampled_with_seed": seed})

    def imported(self, checkpoint: Mapping[str, Any], reading: Reading) -> dict[str, dict[str, float]]:
        """Probabilities, label -> candidate -> p, that another program's search of this space left.

        Args:
            checkpoint: the content of its file.
            reading: ``searched``: every fork has its own; ``released``: those that the other program derived
                its network from, where that is not the same.

        Raises:
            ManasError: for a checkpoint that does not fit the space; for any unless a space overrides this.
        """
        raise ManasError(f"no importer for the space {kind_of(type(self))!r}; give a space that has one")

    def inherit(self, supernet: nn.Module, genotype: Genotype | Mapping[str, str]) -> nn.Module:
        """The derived network with the supernet's weights and buffers, of its type and on its device."""
        choices = self._choices_in(genotype)
        like = next(supernet.parameters(), torch.empty(0))
        network = self.network(choices).to(like.device, like.dtype)
        network.load_state_dict(_inherited(supernet, choices), strict=True)
        return network

    def _choices_in(self, genotype: Genotype | Mapping[str, str] | None) -> Mapping[str, str]:
        if genotype is None or isinstance(genotype, Mapping):
            return genotype or {}
        if genotype.space != self:
            raise ManasError(f"the genotype is of another space: {genotype.space!r}, not {self!r}")
        return genotype.choices

    @model_serializer(mode="wrap")
    def _describe(self, handler: Any) -> dict[str, Any]:
        return {"kind": kind_of(type(self)), **handler(self)}


def _flat(forks: Iterable[Fork]) -> Iterable[tuple[str, tuple[str, ...]]]:
    for fork in forks:
        yield fork.label, fork.names
        for inside in fork.inside.values():
            yield from _flat(inside)


def _size(forks: Iterable[Fork]) -> int:
    return math.prod(sum(_size(inside) for inside in fork.inside.values()) for fork in forks)


def _inherited(supernet: nn.Module, choices: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """`p.candidates.c.X` becomes `p.X` where c is chosen; the rest under a choice's path p is dropped."""
    state = dict(supernet.state_dict())
    paths = [(path, module) for path, module in supernet.named_modules() if isinstance(module, Choice)]
    for path, choice in sorted(paths, key=lambda item: -item[0].count(".")):
        prefix = f"{path}." if path else ""
        chosen = f"{prefix}candidates.{choices.get(choice.label)}."
        under = {key: state.pop(key) for key in list(state) if key.startswith(prefix)}
        state |= {prefix + key.removeprefix(chosen): v for key, v in under.items() if key.startswith(chosen)}
    return state


# Finding spaces: by entry point, by path, as package.module:Class -------------------------------------------


@functools.cache
def _registered(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}


def kind_of(space: type[SearchSpace]) -> str:
    """The entry-point name of a space class, or ``package.module:Class`` where it has none."""
    path = f"{space.__module__}:{space.__qualname__}"
    for name, entry in _registered("manas.spaces").items():
        if entry.value == path or entry.load() is space:
            return name
    return path


def space_class(kind: str, *, trusted: bool) -> type[SearchSpace]:
    """The class of a kind; ``package.module:Class`` is imported only where the kind is `trusted`."""
    registered = _registered("manas.spaces")
    if kind in registered:
        found = registered[kind].load()
    elif trusted and ":" in kind:
        found = _import(kind)
    elif ":" in kind:
        raise ManasError(f"a received file may not name code to import ({kind!r}); give the space explicitly")
    else:
        raise ManasError(f"no space of kind {kind!r} is installed; {nearest(kind, registered)}")
    if not (isinstance(found, type) and issubclass(found, SearchSpace)):
        raise ManasError(f"{kind!r} is no SearchSpace; make it a subclass of manas.SearchSpace")
    return found


def _import(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        return operator.attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ManasError(f"cannot import the space {path!r}: {error}") from error


def parse_space(
    description: Any, *, trusted: bool, where: str = "space", given: type[SearchSpace] | None = None
) -> SearchSpace:
    """A space from a mapping with its `kind`.

    Args:
        trusted: whether the kind may be ``package.module:Class``; not in a received file.
        where: the file or key that errors name.
        given: a class that the caller brings for the kind of its name, in a received file too.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("kind"), str):
        raise ManasError(f"{where}: a space is described by a mapping with its 'kind'")
    kind = description["kind"]
    is_given = given is not None and kind == kind_of(given)
    model = given if given is not None and is_given else space_class(kind, trusted=trusted)
    fields = {key: value for key, value in description.items() if key != "kind"}
    try:
        return model.model_validate(fields, context={"trusted": trusted, "given": given})
    except ValidationError as error:
        raise explain(error, model, where) from error


def load_space(reference: str | Path | Mapping[str, Any] | SearchSpace) -> SearchSpace:
    """A space by preset name, path of a YAML file, mapping with its `kind`, or ``package.module:Class``.

    Raises:
        ManasError: if nothing of that name is found, or the description is not valid.
    """
    if isinstance(reference, SearchSpace):
        return reference
    if isinstance(reference, Mapping):
        return parse_space(reference, trusted=True)
    reference = str(reference)
    if reference.endswith((".yaml", ".yml")):
        return _from_yaml(Path(reference), reference)
    if ":" in reference:
        return parse_space({"kind": reference}, trusted=True, where=reference)
    found = presets()
    if reference not in found:
        raise ManasError(f"no preset {reference!r} is installed; {nearest(reference, found)}")
    return _from_yaml(found[reference], f"preset {reference!r}")


def presets() -> dict[str, Any]:
    """The installed presets by name: the YAML files of every package in the group `manas.presets`."""
    found: dict[str, Any] = {}
    for entry in _registered("manas.presets").values():
        files = importlib.resources.files(entry.load()).iterdir()
        found |= {file.name[:-5]: file for file in files if file.name.endswith(".yaml")}
    return dict(sorted(found.items()))


def _from_yaml(file: Any, where: str) -> SearchSpace:
    return parse_space(read_yaml(file, where), trusted=True, where=where)


def _nested(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, SearchSpace):
        return value
    context = info.context or {}
    trusted = bool(context.get("trusted"))
    if isinstance(value, str) and trusted:
        return load_space(value)
    return parse_space(value, trusted=trusted, given=context.get("given"))


_DESCRIPTION = {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}

# A field of a received file: a space of any installed kind, written with it and read back as what it was.
AnySpace = Annotated[SerializeAsAny[SearchSpace], BeforeValidator(_nested), WithJsonSchema(_DESCRIPTION)]

# A field of a configuration: whatever `load_space` takes.
GivenSpace = Annotated[SerializeAsAny[SearchSpace], BeforeValidator(load_space)]
