"""Hostile directories of DeepSpeed, each with a part of the error that it must give: writes deepspeed/NAME and deepspeed.tsv (NAME, error). Plain Python."""
import os, shutil
from torch_like import *

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS = []
MODEL, OPTIMIZER = "mp_rank_00_model_states.pt", "zero_pp_rank_{}_mp_rank_00_optim_states.pt"


def model(shapes=({"w": (3, 4), "b": (5,)},), step=3):
    params = {k: s for g in shapes for k, s in g.items()}
    return save({"module": {k: Tensor(s, range(numel(s))) for k, s in params.items()}, "param_shapes": [{k: Size(s) for k, s in g.items()} for g in shapes],
                 "frozen_param_shapes": None, "shared_params": {}, "frozen_param_fragments": None, "global_steps": step})


def optimizer(rank, numel=9, count=2, stage=1, step=3.0, slices=None, groups=1):
    flat = lambda add: Tensor((numel,), [rank * 100 + add + i for i in range(numel)])
    state = {"zero_stage": stage, "partition_count": [count] * groups, "base_optimizer_state": {"state": {g: {"step": Tensor((), [step]), "exp_avg": flat(0.5), "exp_avg_sq": flat(0.25)} for g in range(groups)}, "param_groups": [{"lr": 0.1, "params": [0]}]},
             "single_partition_of_fp32_groups": [flat(0) for g in range(groups)]}
    if slices:
        state["param_slice_mappings"] = [{k: record(fragment_address, start=a, numel=n) for k, (a, n) in slices.items()}]
    if stage == 3:
        state["optimizer_state_dict"], state["fp32_flat_groups"], state["partition_count"] = state.pop("base_optimizer_state"), state.pop("single_partition_of_fp32_groups"), count
    return save({"optimizer_state_dict": state, "ds_config": {}, "ds_version": "0"})


def put(name, files, error):
    shutil.rmtree(f"{HERE}/deepspeed/{name}", ignore_errors=True)
    for file, data in files.items():
        os.makedirs(os.path.dirname(f"{HERE}/deepspeed/{name}/{file}"), exist_ok=True)
        with open(f"{HERE}/deepspeed/{name}/{file}", "wb") as f:
            f.write(data)
    ROWS.append((name, error))


def step(*ranks, **files):
    return {MODEL: model()} | {OPTIMIZER.format(i): r for i, r in enumerate(ranks)} | files


both = [optimizer(0), optimizer(1)]
put("good", step(*both), "")
put("good-slices", step(optimizer(0, slices={"w": (0, 9)}), optimizer(1, slices={"w": (0, 3), "b": (3, 5)})), "")
put("rank-missing", step(both[0]), "is of 2 ranks (partition_count), but there are files of 1")
put("first-missing", {MODEL: model(), OPTIMIZER.format(1): both[1]}, "that of rank 0 is missing (zero_pp_rank_0_mp_rank_00_optim_states.pt)")
put("middle-missing", {MODEL: model(), OPTIMIZER.format(0): optimizer(0, 6, 3), OPTIMIZER.format(2): optimizer(2, 6, 3)}, "that of rank 1 is missing")
put("other-step", step(both[0], optimizer(1, step=2.0)), "are of different steps (group 0)")
put("other-stage", step(both[0], optimizer(1, stage=2)), "has the ZeRO stage 2, but zero_pp_rank_0_mp_rank_00_optim_states.pt has 1")
put("other-groups", step(both[0], optimizer(1, groups=2)), "has groups 2, but zero_pp_rank_0_mp_rank_00_optim_states.pt has 1")
put("rank-twice", step(both[0], both[0]), "it is a copy of another rank's file")
put("other-rank", step(optimizer(0, slices={"w": (0, 3), "b": (3, 5)}), optimizer(1, slices={"w": (0, 9)})), "it is of another rank or run")
put("longer-part", step(both[0], optimizer(1, 10)), "has 10 elements of master of group 0, rank 0 9")
put("shapes-need-more", step(*both) | {MODEL: model([{"w": (30, 4)}])}, "its parameters' shapes need 120")
put("shapes-need-less", step(*both) | {MODEL: model([{"w": (3, 1)}])}, "its parameters' shapes need 3")
put("no-model", {OPTIMIZER.format(0): both[0], OPTIMIZER.format(1): both[1]}, "there is no mp_rank_00_model_states.pt")
put("model-parallel", step(*both) | {"mp_rank_01_model_states.pt": model()}, "is of model-parallel rank 1")
put("pipeline", step(*both) | {"layer_01-model_00-model_states.pt": model()}, "it is of a pipeline, or has experts")
put("two-kinds", step(*both) | {"bf16_" + OPTIMIZER.format(1): both[1]}, "are of the same rank")
put("shape-overflows", step(*both) | {MODEL: save({"module": {}, "param_shapes": [{"w": Size((1 << 40, 1 << 40))}]})}, "the shape of parameter 'w' is none, or overflows")
put("no-optimizer-state", step(both[0], save({"a": 1})), "it holds no optimizer_state_dict of ZeRO stage 1, 2 or 3")
put("stage-4", step(both[0], optimizer(1, stage=4)), "it holds no optimizer_state_dict of ZeRO stage 1, 2 or 3 (stage 4)")
put("half", step(both[0], both[1][:len(both[1]) // 2]), "zero_pp_rank_1_mp_rank_00_optim_states.pt: it begins as a ZIP archive, but has no end record")
put("latest-gone", {"latest": b"global_step7", "global_step3/" + MODEL: model()}, "it names 'global_step7', which is not there; give one of those that are there itself: global_step3")
put("latest-up", {"latest": b"../deepspeed/good", "global_step3/" + MODEL: model()}, "it names '../deepspeed/good', which is not there")
three = lambda rank, **k: optimizer(rank, 6 + 3, stage=3, **k)
Z3 = "zero_pp_rank_{}_mp_rank_00_model_states.pt"
put("three-good", {Z3.format(0): model(), Z3.format(1): model(), OPTIMIZER.format(0): three(0), OPTIMIZER.format(1): three(1)}, "")
put("three-model-of-other-step", {Z3.format(0): model(), Z3.format(1): model(step=2), OPTIMIZER.format(0): three(0), OPTIMIZER.format(1): three(1)}, "is of another step than")
put("three-model-missing", {Z3.format(0): model(), Z3.format(1): model(), OPTIMIZER.format(0): three(0)}, "model states of 2 ranks, but optimizer states of 1")
put("three-shapes", {Z3.format(0): model([{"w": (9, 4)}]), Z3.format(1): model(), OPTIMIZER.format(0): three(0), OPTIMIZER.format(1): three(1)}, "but the parameters' shapes need 18")
put("three-twice", {Z3.format(0): model(), Z3.format(1): model(), OPTIMIZER.format(0): three(0), OPTIMIZER.format(1): three(0)}, "it is a copy of another rank's file")

with open(f"{HERE}/deepspeed.tsv", "w") as f:
    f.writelines(f"{name}\t{error}\n" for name, error in ROWS)
