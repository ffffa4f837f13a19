"""Whether a checkpoint goes into the objects of a state, found out before any of them is touched; and how it gets there."""
from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

from . import adapters, nest, sharded

Form = Tuple[str, Tuple[int, ...]]  # type and shape
Place = Tuple[str, str]             # group and name


class Mismatch(ValueError):
    """The checkpoint and the state do not go together: names, shapes or types differ."""


def some(names: List[str]) -> str:
    return ", ".join(repr(n) for n in names[:4]) + (" and more" if len(names) > 4 else "")


def compare(where: str, live: Dict[str, Any], stored: Dict[str, Form]) -> List[str]:
    """How the tensors of a module differ from those that are stored for it."""
    missing, extra = [n for n in live if n not in stored], [n for n in stored if n not in live]
    empty = [n for n in live if getattr(live[n], "is_meta", False)]
    problems = [f"'{where}': {some(empty)} {'is' if len(empty) == 1 else 'are'} on the device meta, which holds no numbers: give the module memory first (to_empty(device='cpu'))"] if empty else []
    problems += [f"'{where}': the checkpoint has no {some(missing)}"] if missing else []
    problems += [f"'{where}': the model has no {some(extra)}"] if extra else []
    types: Dict[Tuple[str, str], List[str]] = {}
    for name, (type_name, shape) in stored.items():
        if name not in live:
            continue
        t = live[name]
        if tuple(t.shape) != tuple(shape):
            problems.append(f"'{where}': '{name}' has the shape {list(t.shape)}, in the checkpoint {list(shape)}")
        elif nest.type_of(t) != type_name:
            types.setdefault((nest.type_of(t), type_name), []).append(name)
    problems += [f"'{where}': {some(names)} {'is' if len(names) == 1 else 'are'} {mine}, in the checkpoint {theirs}" for (mine, theirs), names in types.items()]
    return problems


def _parameters(optimizer: Any) -> List[Any]:
    return [p for g in optimizer.param_groups for p in g["params"]]


# What an optimizer keeps of a parameter in the parameter's own shape.
_OF_ONE_SHAPE = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "acc_delta", "exp_inf", "prev", "master_param"}


# What torch has added to the groups of optimizers that were there before: a checkpoint may have none of it, or more.
_ADDED = {"maximize", "foreach", "capturable", "differentiable", "fused", "decoupled_weight_decay"}
# What tells one of torch's optimizers from another. Schedulers and programs have keys of their own in groups (initial_lr, max_lr, a name), which tell nothing.
_OF_SOME = {"betas", "eps", "amsgrad", "momentum", "dampening", "nesterov", "alpha", "centered", "lr_decay", "initial_accumulator_value", "rho", "momentum_decay", "lambd", "t0", "etas", "step_sizes",
            "max_iter", "max_eval", "tolerance_grad", "tolerance_change", "history_size", "line_search_fn", "ns_coefficients", "ns_steps", "adjust_lr_fn", "weight_decay"}


def _plain_name(name: str) -> str:
    return ".".join(p for p in name.split(".") if p not in ("module", "_orig_mod"))


def group_problems(where: str, optimizer: Any, groups: List[Dict[str, Any]]) -> List[str]:
    """How the stored groups are those of another optimizer, or of parameters in another order. groups: their plain values; of anything else that they hold the keys count."""
    defaults = getattr(optimizer, "defaults", None)
    if not isinstance(defaults, dict):
        return []
    problems = []
    for i, (mine, theirs) in enumerate(zip(optimizer.param_groups, groups)):
        missing = [k for k in defaults if k not in theirs and k not in _ADDED]
        unknown = [k for k in theirs if k in _OF_SOME and k not in defaults and k not in mine]
        if missing or unknown:
            has = "; ".join(([f"in the checkpoint there is no {some(missing)}"] if missing else []) + ([f"it has no {some(unknown)}"] if unknown else []))
            problems.append(f"'{where}': group {i} is another optimizer's than {type(optimizer).__name__}'s: {has}")
        elif isinstance(theirs.get("decoupled_weight_decay"), bool) and mine.get("decoupled_weight_decay", theirs["decoupled_weight_decay"]) != theirs["decoupled_weight_decay"]:
            problems.append(f"'{where}': group {i}: decoupled_weight_decay is {mine['decoupled_weight_decay']}, in the checkpoint {theirs['decoupled_weight_decay']}: one is Adam, the other AdamW")
        names, others = mine.get("param_names"), theirs.get("param_names")
        if isinstance(names, list) and isinstance(others, list) and all(isinstance(n, str) for n in names + others):
            places = {_plain_name(n): k for k, n in enumerate(others)}
            moved = [(k, n) for k, n in enumerate(names) if places.get(_plain_name(n), k) != k]
            if moved:
                k, n = moved[0]
                problems.append(f"'{where}': the parameters of group {i} are in another order: {n!r} is number {k}, in the checkpoint {places[_plain_name(n)]}")
    return problems[:4]


# What torch's schedulers have had, or have, by version.
_SCHEDULERS_ADDED = {"verbose", "default_min_lr", "is_better", "anneal_func", "mode_worse", "min_lrs", "eps"}


def scheduler_problems(where: str, scheduler: Any, stored: List[Any]) -> List[str]:
    """How the stored state is another scheduler's, by its keys."""
    torch = nest.torch_if_loaded()
    base = getattr(torch.optim.lr_scheduler, "LRScheduler", None) if torch is not None else None
    if base is None or not isinstance(scheduler, (base, torch.optim.lr_scheduler.ReduceLROnPlateau)):
        return []
    told = [k for k in stored if isinstance(k, str) and not k.startswith("_") and k not in _SCHEDULERS_ADDED]
    mine = [k for k in scheduler.state_dict() if isinstance(k, str) and not k.startswith("_") and k not in _SCHEDULERS_ADDED]
    missing, unknown = [k for k in mine if k not in told], [k for k in told if k not in mine]
    if not missing and not unknown:
        return []
    has = "; ".join(([f"in the checkpoint there is no {some(missing)}"] if missing else []) + ([f"it has no {some(unknown)}"] if unknown else []))
    return [f"'{where}': the checkpoint has another scheduler's state than a {type(scheduler).__name__}'s: {has}"]


def optimizer_problems(where: str, optimizer: Any, groups: List[int], state: Callable[[], List[Tuple[int, str, Tuple[int, ...]]]], plain: List[Dict[str, Any]]) -> List[str]:
    """groups: how many parameters each stored group has; state: (number of the parameter, name, shape) of each stored tensor; plain: the groups' values."""
    mine = [len(g["params"]) for g in optimizer.param_groups]
    if mine != groups:
        return [f"'{where}': the optimizer has {mine} parameters in its groups, in the checkpoint {groups}"]
    params = _parameters(optimizer)
    problems = group_problems(where, optimizer, plain)
    for i, name, shape in state():
        if name in _OF_ONE_SHAPE and i < len(params) and tuple(params[i].shape) != tuple(shape):
            problems.append(f"'{where}': parameter {i} has the shape {list(params[i].shape)}, its {name} in the checkpoint {list(shape)}: the parameters are in another order, or others")
    return problems[:4]


def _expanded(t: Any) -> bool:
    return sharded.kind_of(t) is None and t.layout == nest.torch_if_loaded().strided and any(n > 1 and stride == 0 for n, stride in zip(t.shape, t.stride()))


def has_objects(x: Any) -> bool:
    """Whether something in it takes a state, rather than being one."""
    if isinstance(x, dict) and not nest.is_stateful(x):
        return any(has_objects(v) for v in x.values())
    if isinstance(x, (list, tuple)):
        return any(has_objects(v) for v in x)
    return nest.is_generator(x) or nest.is_stateful(nest.unwrapped(x))


class Match:
    """What state.json names, beside what the state has in the same places."""

    def __init__(self, stored: Dict[Place, Form]) -> None:
        self.stored = stored
        self.problems: List[str] = []
        # Each that is named: as which kind, and a live tensor that its bytes may be read into, or like which one it is spread (sharded.Like).
        self.tensors: Dict[Place, Tuple[str, Optional[Any]]] = {}
        self.unknown: Optional[Place] = None                       # one that no file has

    def note(self, tree: Any, live: Any = None) -> Optional[Form]:
        kind = nest.kind_of(tree)
        place = tuple(tree[kind])
        if place not in self.stored:
            self.unknown = place
            return None
        before = self.tensors.get(place)
        if before is None or before[1] is None:
            self.tensors[place] = (kind, live)
        return self.stored[place]

    def walk(self, tree: Any, live: Any, where: str) -> None:
        if nest.kind_of(tree) == "$stays":
            return
        if nest.kind_of(tree) in ("$tensor", "$array"):
            self.tensor(tree, live, where)
            return
        inner = nest.unwrapped(live)
        if adapters.is_peft(inner) and nest.kind_of(tree) == "$peft":
            self.problems += adapters.match(inner, tree, where, self.module)
            return
        if nest.kind_of(tree) == "$peft" and live is not None:
            self.problems.append(f"'{where}': the checkpoint has the adapters of a PeftModel there, and no base; load the base and wrap it (get_peft_model, or PeftModel.from_pretrained(base, checkpoint))")
            live = None
        mapping, sequence = nest.members(tree)
        if nest.is_module(inner) and mapping is not None:
            state = inner.state_dict()
            self.module(where, {k: v for k, v in state.items() if hasattr(v, "data_ptr")}, {k: v for k, v in mapping if nest.kind_of(v) in ("$tensor", "$array")})
            mapping, live = [(k, v) for k, v in mapping if nest.kind_of(v) not in ("$tensor", "$array")], None
        elif nest.is_optimizer(inner) and mapping is not None:
            self.optimizer(dict(mapping), inner, where)
            live = None
        elif nest.is_stateful(inner) or nest.is_generator(inner):
            if mapping is not None and nest.is_scheduler(inner):
                self.problems += scheduler_problems(where, inner, [k for k, _ in mapping])
            live = None
        elif nest.torch_if_loaded() is not None and isinstance(live, nest.torch_if_loaded().Tensor):
            self.problems.append(f"'{where}' is a tensor, and the checkpoint has something else there")
        fits = isinstance(live, dict) if mapping is not None else isinstance(live, (list, tuple)) and len(live) == len(sequence) if sequence is not None else False
        if live is not None and not fits and has_objects(live):
            self.problems.append(f"'{where}' holds objects that take a state, and the checkpoint has something of another form there")
            live = None
        if mapping is not None:
            lives = live if isinstance(live, dict) else {}
            there = {k for k, _ in mapping}
            self.problems += [f"'{where}/{k}' is in the state and not in the checkpoint" for k, v in lives.items() if k not in there and has_objects(v)]
            for k, v in mapping:
                self.walk(v, lives.get(k), f"{where}/{k}")
        elif sequence is not None:
            lives = list(live) if isinstance(live, (list, tuple)) and len(live) == len(sequence) else [None] * len(sequence)
            for i, (v, one) in enumerate(zip(sequence, lives)):
                self.walk(v, one, f"{where}/{i}")

    def tensor(self, tree: Any, live: Any, where: str) -> None:
        """One that is no module's: in place where it has the same form; one of another type is nobody's wish."""
        is_tensor = nest.torch_if_loaded() is not None and isinstance(live, nest.torch_if_loaded().Tensor)
        form = self.note(tree, live if is_tensor else None)
        if form is None or not (is_tensor or nest.is_jax(live)):
            return
        if nest.type_of(live) != form[0]:
            self.problems.append(f"'{where}' is {nest.type_of(live)}, in the checkpoint {form[0]}")
        elif tuple(live.shape) != tuple(form[1]):
            self.problems.append(f"'{where}' has the shape {list(live.shape)}, in the checkpoint {list(form[1])}")
        elif is_tensor and live.is_meta:
            self.problems.append(f"'{where}' is on the device meta, which holds no numbers: give it memory first, or None in the state")
        elif is_tensor and _expanded(live):
            self.problems.append(f"'{where}' is expanded: several of its elements are one in memory, and nothing can be put into it; clone it first")

    def module(self, where: str, live: Dict[str, Any], trees: Dict[str, Any], in_place: bool = True) -> None:
        forms = {name: self.note(tree, live.get(name) if in_place else None) for name, tree in trees.items()}
        self.problems += compare(where, live, {n: f for n, f in forms.items() if f is not None})

    def optimizer(self, tree: Dict[str, Any], live: Any, where: str) -> None:
        groups = nest.members(tree.get("param_groups"))[1]
        counts, plain = [], []
        for g in groups or []:
            plain.append(dict(nest.members(g)[0] or []))
            params = nest.members(plain[-1].get("params"))[1]
            if params is None:
                return
            counts.append(len(params))

        params = _parameters(live)
        for i, of_one in nest.members(tree.get("state"))[0] or []:
            for _, t in nest.members(of_one)[0] or []:
                p = params[i] if isinstance(i, int) and i < len(params) else None
                if nest.kind_of(t) == "$tensor" and p is not None and sharded.is_shared(p) and self.stored.get(tuple(t["$tensor"]), ("", ()))[1] == tuple(p.shape):
                    self.note(t, sharded.Like(p))

        def state() -> List[Tuple[int, str, Tuple[int, ...]]]:
            out = []
            for i, of_one in nest.members(tree.get("state"))[0] or []:
                for name, t in nest.members(of_one)[0] or []:
                    if isinstance(i, int) and nest.kind_of(t) == "$tensor" and tuple(t["$tensor"]) in self.stored:
                        out.append((i, name, self.stored[tuple(t["$tensor"])][1]))
            return out
        if groups is not None:
            self.problems += optimizer_problems(where, live, counts, state, plain)


def with_ties(value: Any, live: Any) -> Any:
    """A module's tensors of another program, with the names that it left out as they are tied to others (safetensors keeps one tensor under one name)."""
    inner = nest.unwrapped(live)
    if not nest.is_module(inner) or not isinstance(value, dict) or adapters.is_peft(inner):
        return value
    state = {n: t for n, t in inner.state_dict().items() if hasattr(t, "data_ptr") and t.numel()}
    stored = {(t.data_ptr(), tuple(t.shape), tuple(t.stride())): value[n] for n, t in state.items() if n in value}
    missing = {n: (t.data_ptr(), tuple(t.shape), tuple(t.stride())) for n, t in state.items() if n not in value}
    return {**value, **{n: stored[at] for n, at in missing.items() if at in stored}}


def foreign_problems(where: str, value: Any, live: Any) -> List[str]:
    """The same of a state that another program left."""
    inner = nest.unwrapped(live)
    torch = nest.torch_if_loaded()
    if not isinstance(value, dict) or torch is None:
        return []
    if nest.is_module(inner):
        state = adapters.tensors_of(inner, adapters.adapters_of(inner)[0]) if adapters.is_peft(inner) else inner.state_dict()
        return compare(where, {k: v for k, v in state.items() if hasattr(v, "data_ptr")}, {k: (nest.type_of(v), tuple(v.shape)) for k, v in value.items() if hasattr(v, "data_ptr")})
    if nest.is_optimizer(inner) and isinstance(value.get("param_groups"), list):
        tensors = [(i, n, tuple(t.shape)) for i, of_one in value.get("state", {}).items() if isinstance(of_one, dict) for n, t in of_one.items() if isinstance(t, torch.Tensor)]
        return optimizer_problems(where, inner, [len(g["params"]) for g in value["param_groups"]], lambda: tensors, value["param_groups"])
    return scheduler_problems(where, inner, list(value)) if nest.is_scheduler(inner) else []


def _fitting(live: Dict[str, Any], stored: Dict[str, Any]) -> Dict[str, Any]:
    """Those of the stored tensors that have a place, as the live ones are spread."""
    out = {}
    for name, v in stored.items():
        t = live.get(name)
        if hasattr(t, "data_ptr") and hasattr(v, "data_ptr"):
            if tuple(t.shape) != tuple(v.shape):
                continue
            v = sharded.like(v, t) if sharded.kind_of(t) else v
        out[name] = v
    return out


def _put_module(module: Any, value: Dict[str, Any], strict: bool) -> None:
    live = module.state_dict()
    fit = _fitting(live, value)
    module.load_state_dict(fit if not strict or len(fit) == len(value) else value, strict=strict)


def _put_optimizer(optimizer: Any, value: Dict[str, Any], strict: bool) -> None:
    """torch gives an optimizer's state the type of its parameter: one that was kept in another (F32 beside a BF16 weight) is put back as it was."""
    groups = value.get("param_groups")
    if not isinstance(groups, list) or [len(g["params"]) for g in groups] != [len(g["params"]) for g in optimizer.param_groups]:
        if strict or not isinstance(groups, list):
            optimizer.load_state_dict(value)
        return  # told: it stays as it is
    torch = nest.torch_if_loaded()
    params = dict(zip((i for g in groups for i in g["params"]), _parameters(optimizer)))
    state = {}
    for i, of_one in value.get("state", {}).items():
        p = params.get(i)
        spread = p is not None and isinstance(of_one, dict) and sharded.kind_of(p)
        state[i] = {k: sharded.like(v, p) if isinstance(v, torch.Tensor) and v.dim() and v.shape == p.shape else v for k, v in of_one.items()} if spread else of_one
    optimizer.load_state_dict({**value, "state": state})
    if not strict or not isinstance(optimizer, torch.optim.Optimizer):
        return
    for i, of_one in state.items():
        now = optimizer.state.get(params.get(i)) if i in params else None
        for k, v in of_one.items() if isinstance(of_one, dict) and isinstance(now, dict) else ():
            if isinstance(v, torch.Tensor) and isinstance(now.get(k), torch.Tensor) and now[k].dtype != v.dtype:
                now[k] = v.to(now[k].device)


def merged(target: Any, value: Any, strict: bool, where: str) -> Any:
    """What stands in the target's place when the value has been put into it: itself wherever it can take it."""
    inner = nest.unwrapped(target)
    torch = nest.torch_if_loaded()
    if value is nest.STAYING:
        return target
    if nest.is_generator(inner) or nest.is_stateful(inner):
        try:
            if nest.is_generator(inner):
                nest.set_generator(inner, value)
            elif isinstance(value, nest.PeftState):
                if adapters.is_peft(inner):
                    adapters.put(inner, value, _fitting)
                elif strict:
                    raise ValueError("the checkpoint has the adapters of a PeftModel there")
            elif adapters.is_peft(inner) and torch is not None and value.keys() == adapters.tensors_of(inner, adapters.adapters_of(inner)[0]).keys():  # PEFT's own, of another program
                from peft import set_peft_model_state_dict
                set_peft_model_state_dict(inner, value, adapter_name=adapters.adapters_of(inner)[0])
            elif torch is not None and isinstance(inner, torch.nn.Module):
                _put_module(inner, value, strict)
            elif nest.is_optimizer(inner) and torch is not None and isinstance(value, dict):
                _put_optimizer(inner, value, strict)
            else:
                inner.load_state_dict(value)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
            raise Mismatch(f"'{where}' ({type(inner).__name__}) did not take its state: {type(e).__name__}: {e}") from e
        return target
    if sharded.is_shared(target) and sharded.kind_of(value) == sharded.kind_of(target):
        for (mine, _), (read, _) in zip(sharded.parts(target), sharded.parts(value)):
            if mine.data_ptr() != read.data_ptr():
                mine.copy_(read)
        return target
    if torch is not None and isinstance(target, torch.Tensor) and isinstance(value, torch.Tensor) and target.shape == value.shape and not target.is_meta and not _expanded(target):
        here = sharded.plain(target)
        if here.data_ptr() != value.data_ptr() or here.stride() != value.stride():
            with torch.no_grad():
                here.copy_(value)
        return target
    if nest.is_jax(target) and hasattr(value, "__array_interface__"):
        import jax
        return jax.device_put(value, target.sharding) if value.shape == target.shape else jax.device_put(value)
    if isinstance(target, dict) and isinstance(value, dict):
        # The same dict goes on, with what was saved; objects that were not saved stay.
        for k in [k for k in target if k not in value]:
            if not has_objects(target[k]):
                del target[k]
            elif strict:
                raise Mismatch(f"'{where}/{k}' is in the state and not in the checkpoint. strict=False goes on without it")
        for k, v in value.items():
            target[k] = merged(target[k], v, strict, f"{where}/{k}") if k in target else v
        return target
    if isinstance(target, (list, tuple)) and (type(target) is type(value) or isinstance(target, list) and type(value) is list) and len(target) == len(value):
        each = [merged(t, v, strict, f"{where}/{i}") for i, (t, v) in enumerate(zip(target, value))]
        if isinstance(target, list):
            target[:] = each
            return target
        return type(target)._make(each) if hasattr(target, "_make") else type(value)(each)
    if has_objects(target):
        if strict:
            raise Mismatch(f"'{where}' holds objects that take a state, and the checkpoint has something of another form there")
        return target
    if isinstance(target, list) and type(target) is not list and isinstance(value, list):
        target[:] = value
        return target
    return value
