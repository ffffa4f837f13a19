"""A state as torch's DCP sees it, one flat dict of names, and as state.json has it, a nest: there and back."""
from __future__ import annotations

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import nest
from .plans import Places

Path = Tuple[Any, ...]


class Leaf:
    """A value as state.json has it, among dicts and lists of the nest that is being built."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree


def tree_of(leaves: Dict[Path, Any]) -> Dict[str, Any]:
    """The nest of values by their paths: text keys are those of dicts, integers those of lists (torch makes texts of a dict's integers)."""
    root: Dict[Any, Any] = {}
    for path, tree in leaves.items():
        at = root
        for key in path[:-1]:
            at = at.setdefault(key, {})
            if isinstance(at, Leaf):
                raise nest.StateError(f"{'.'.join(map(str, path))}: a value stands where another rank has a dict or a list")
        if isinstance(at.get(path[-1]), dict):
            raise nest.StateError(f"{'.'.join(map(str, path))}: a value stands where another rank has a dict or a list")
        at[path[-1]] = Leaf(tree)
    return {str(k): _built(v, root) for k, v in root.items()}


def _built(node: Any, above: Dict[Any, Any]) -> Any:
    if isinstance(node, Leaf):
        return node.tree
    if all(type(k) is int for k in node):
        return [_built(node[i], node) if i in node else None for i in range(max(node) + 1)]
    items = [(k, _built(v, node)) for k, v in node.items()]
    if "state" not in node and isinstance(node.get("param_groups"), dict):
        items.insert(0, ("state", {}))  # of an optimizer without any: a dict of nothing has no names
    if above.get("state") is node and _numbers_its_parameters(above) and all(k.isdigit() for k, _ in items):
        return {"$dict": [[int(k), v] for k, v in items]}
    if len(items) == 1 and items[0][0].startswith("$"):
        return {"$dict": [[k, v] for k, v in items]}
    return dict(items)


def _numbers_its_parameters(node: Dict[Any, Any]) -> bool:
    """Whether it is the state_dict of an optimizer of torch as it is, with numbers for parameters; get_optimizer_state_dict has names."""
    groups = node.get("param_groups")
    if not isinstance(groups, dict):
        return False
    named = [g.get("params") for g in groups.values() if isinstance(g, dict)]
    return bool(named) and all(isinstance(p, Leaf) and isinstance(p.tree, list) and all(type(i) is int for i in p.tree) for p in named)


class Packer(nest._Packer):
    """What is no tensor of the plan: plain values, and whatever arrays and tensors stand in them."""

    def __init__(self, places: Places) -> None:
        super().__init__(True)
        self.places, self.inside = places, 1

    def place_of(self, path: Tuple[str, ...]) -> Tuple[str, str]:
        group, base = self.places.of_path(path)
        return group, self.free(group, base)

    def free(self, group: str, base: str) -> str:
        """That name, or one made of it that the group has not yet."""
        taken = self.names.setdefault(group, {"__metadata__"})
        name, n = base, 1
        while name in taken:
            n += 1
            name = f"{base}~{n}"
        taken.add(name)
        return name


class Flat(NamedTuple):
    """A checkpoint's state as a load planner will have it."""
    paths: Dict[str, Path]                    # of all leaves by their names
    tensors: Dict[str, Tuple[str, str]]       # group and name of those that are tensors
    trees: Dict[str, Any]                     # the others


def flat_of(tree: Dict[str, Any]) -> Flat:
    """By torch's own rules of what is a leaf, so that the names are those of the state that is loaded."""
    import torch
    from torch.distributed.checkpoint._nested_dict import flatten_state_dict
    places: Dict[int, Tuple[str, str]] = {}
    kept: List[Any] = []

    def tensor(kind: str, group: str, name: str) -> Any:
        made = torch.empty((0,), device="meta") if kind == "$tensor" else object()
        places[id(made)] = (group, name)
        kept.append(made)
        return made
    flat, paths = flatten_state_dict(nest.unpack(tree, tensor, nest._INSIDE))
    tensors = {fqn: places[id(v)] for fqn, v in flat.items() if isinstance(v, torch.Tensor)}
    return Flat(dict(paths), tensors, {fqn: _at(tree, path) for fqn, path in paths.items() if fqn not in tensors})


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        pairs, items = nest.members(tree)
        if items is not None:
            tree = items[key]
        else:
            tree = next(v for k, v in _named(pairs) if k == str(key))
    return tree


def _named(pairs: Optional[List[Tuple[Any, Any]]]) -> Iterator[Tuple[str, Any]]:
    for k, v in pairs or ():
        yield str(k), v
