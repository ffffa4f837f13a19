"""A training by DeepSpeed on the CPU, for test_deepspeed.py: of as many ranks as the environment says."""
import os
import signal
import sys
import time
import warnings

os.environ.setdefault("DS_ACCELERATOR", "cpu")
warnings.filterwarnings("ignore", module="torch|deepspeed")
import torch

torch.set_num_threads(1)
import deepspeed

import ingot
import ingot.deepspeed

STEPS = 24


def rows(n=48):
    g = torch.Generator().manual_seed(1)
    return torch.utils.data.TensorDataset(torch.randn(n, 8, generator=g), torch.randn(n, 4, generator=g))


def engine_of(stage, world, universal=False, width=16, dropout=0.1):
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # an operation that would be compiled
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, width), torch.nn.Dropout(dropout), torch.nn.Linear(width, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    config = {"train_batch_size": 4 * world, "zero_optimization": {"stage": stage}, "zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False, "steps_per_print": 100000}
    if universal:
        config["checkpoint"] = {"load_universal": True}
    return deepspeed.initialize(model=model, optimizer=optimizer, lr_scheduler=scheduler, config=config)[0]


def loader(rank, world, in_order=False):
    sampler = torch.utils.data.DistributedSampler(rows(), world, rank, shuffle=True, seed=3) if world > 1 else None
    return ingot.loader(torch.utils.data.DataLoader(rows(), batch_size=4, shuffle=sampler is None and not in_order, sampler=sampler))


def weights(engine, stage):
    if stage < 3:
        return {k: v.detach().clone() for k, v in engine.module.state_dict().items()}
    out = {}
    for name, p in engine.module.named_parameters():
        with deepspeed.zero.GatheredParameters(p):
            out[name] = p.detach().clone()
    return out


def whole(engine, stage):
    """The weights and Adam's moments by the parameters' names, whole, on all ranks."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state
    out = {}
    for name, p in engine.module.named_parameters():
        out[name] = {"fp32": safe_get_full_fp32_param(p).clone(), **{k: safe_get_full_optimizer_state(p, k).clone() for k in ("exp_avg", "exp_avg_sq")}}
    return out


def run(began, directory, out, store, rank, world, stage=1, every=3, save=True, attached=True, steps=STEPS, die_at=0, signal_at=0, slow=0.0, tag=None, load=None, universal=False, width=16, dropout=0.1, in_order=False,
        rank_timeout=600.0, moments=False):
    """One rank, from what is there to its end. began: called before each step."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    engine = engine_of(stage, world, universal, width, dropout)
    data = loader(rank, world, in_order)
    hook = ingot.deepspeed.attach(engine, directory, keep=ingot.Keep(last=3), state={"data": data}, rank_timeout=rank_timeout) if attached else None
    path, told = engine.load_checkpoint(load or directory, tag if tag and os.path.lexists(os.path.join(directory, tag)) else None) if save or load else (None, {})
    print(f"rank {rank}: from {path} at {engine.global_steps}, client {told.get('mine') if told else None}", flush=True)
    epoch = data.epoch
    while engine.global_steps < steps:
        if world > 1:
            data.dataloader.sampler.set_epoch(epoch)
        # Without ingot nothing knows the place in the data: it is found again by counting.
        skip = engine.global_steps % len(data) if hook is None or data.position == 0 and not data._resume and engine.global_steps % len(data) else 0
        for i, (x, y) in enumerate(data):
            if i < skip:
                continue
            began()
            loss = (engine(x) - y).pow(2).mean()
            engine.backward(loss)
            engine.step()
            time.sleep(slow)
            if rank == world - 1 and engine.global_steps == signal_at:
                os.kill(os.getpid(), signal.SIGTERM)
            if rank == world - 1 and engine.global_steps == die_at:
                os._exit(9)
            preempted = hook is not None and hook.preempted
            if save and (engine.global_steps % every == 0 or preempted):
                engine.save_checkpoint(directory, tag, client_state={"mine": engine.global_steps})
            if preempted:
                hook.exit()
            if engine.global_steps >= steps:
                break
        epoch += 1
    if hook is not None:
        hook.wait()
    end = whole(engine, stage) if moments else weights(engine, stage)
    if rank == 0:
        torch.save(end, out)
    torch.distributed.barrier()
    if hook is not None:
        hook.detach()
    torch.distributed.destroy_process_group()
