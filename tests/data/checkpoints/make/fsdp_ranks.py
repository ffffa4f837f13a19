# Two ranks of FSDP2 with one torch.save each, as verl lays them: make/fsdp_ranks.py OUT (torch 2.14, CPU).
import os, sys, torch, torch.distributed as dist, torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor


def run(rank, out):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29611", RANK=str(rank), WORLD_SIZE="2")
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("fsdp",))
    numbers = lambda *shape: torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)
    state = {
        "rows": distribute_tensor(numbers(5, 3), mesh, [Shard(0)]),  # 3 and 2
        "columns": distribute_tensor(numbers(2, 5), mesh, [Shard(1)]),
        "first": distribute_tensor(numbers(1, 2), mesh, [Shard(0)]),  # nothing on the second
        "same": distribute_tensor(numbers(4), mesh, [Replicate()]),
        "buffer": numbers(3),
    }
    torch.save(state, f"{out}/model_world_size_2_rank_{rank}.pt")
    torch.save({"state": {0: {"step": torch.tensor(1.0)}}}, f"{out}/optim_world_size_2_rank_{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    mp.spawn(run, args=(sys.argv[1],), nprocs=2)
