"""One Python rank: makes the calls of rank.cjs's part of the same name."""

import json
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

timeout = timedelta(seconds=60)


def collectives():
    dist.init_process_group("gloo", timeout=timeout)
    rank = dist.get_rank()
    said = {"rank": rank, "size": dist.get_world_size(), "name": "0"}

    def reduced(tensor, **options):
        dist.all_reduce(tensor, **options)
        return tensor.tolist()

    said["sum"] = reduced(torch.full([3], rank + 1.5))
    said["max"] = reduced(torch.tensor([rank, 5 - rank]), op=dist.ReduceOp.MAX)
    said["half"] = reduced(torch.ones(2).to(torch.bfloat16))
    shared = torch.tensor([rank, 0.5])
    dist.broadcast(shared, src=1)
    said["broadcast"] = shared.tolist()
    gathered = [torch.zeros(1, 2, dtype=torch.int64) for _ in range(2)]
    dist.all_gather(gathered, torch.tensor([[rank, 1]]))
    said["gathered"] = [each.tolist() for each in gathered]
    part = torch.zeros(2, dtype=torch.int64)
    dist.reduce_scatter_tensor(part, torch.tensor([rank, 1, 10, rank]))
    said["part"] = part.tolist()
    at_one = [torch.zeros(1) for _ in range(2)] if rank == 1 else None
    dist.gather(torch.tensor([rank + 0.5]), at_one, dst=1)
    said["atOne"] = at_one and [each.tolist() for each in at_one]
    scattered = torch.zeros(2)
    parts = [torch.tensor([1.5, 2]), torch.tensor([3.5, 4])] if rank == 0 else None
    dist.scatter(scattered, parts, src=0)
    said["scattered"] = scattered.tolist()
    if rank == 0:
        dist.send(torch.tensor([7, 8]), 1, tag=3)
    else:
        received = torch.zeros(2, dtype=torch.int64)
        said["from"] = dist.recv(received, 0, tag=3)
        said["received"] = received.tolist()
    objects = [None, None]
    mine = {"name": f"rank {rank}", "list": [1, 2.5, None, True], "text": "x" * (rank * 300)}
    dist.all_gather_object(objects, mine)
    said["objects"] = objects
    values = ["a", 2, None] if rank == 0 else [None, None, None]
    dist.broadcast_object_list(values, src=0)
    said["list"] = values
    sub = dist.new_group([1])
    said["sub"] = [dist.get_rank(sub), 1]
    both = dist.new_group([1, 0])
    total = torch.full([1], rank + 1)
    dist.all_reduce(total, group=both)
    said["second"] = ["2", total.item()]
    import torch.distributed._functional_collectives as functional

    said["functional"] = functional.all_reduce(torch.full([2], rank + 1), "sum", dist.group.WORLD).tolist()
    dist.barrier()
    print(json.dumps(said))
    dist.destroy_process_group()


def mixed():
    dist.init_process_group("gloo", timeout=timeout)
    rank = dist.get_rank()
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2)).to(torch.float64)
    if rank == 1:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(1)
    model = nn.parallel.DistributedDataParallel(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)

    def at(shape, scale, step):
        count = shape[0] * shape[1]
        return (torch.arange(count, dtype=torch.float64) * scale + step).sin().view(shape)

    for step in range(5):
        x, y = at([8, 4], 0.7, step)[rank * 4 :][:4], at([8, 2], 1.3, step)[rank * 4 :][:4]
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    print(json.dumps([parameter.tolist() for parameter in module.parameters()]))
    dist.destroy_process_group()


globals()[sys.argv[1]]()
