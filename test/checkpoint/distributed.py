"""Distributed checkpoints of real PyTorch. `make DIR` writes them; `check DIR` loads those that torchbind wrote. Prints JSON."""
import json, os, sys
import torch, torch.nn as nn, torch.nn.functional as F
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

N, C, T, V, H = 1, 8, 8, 12, 2


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1 = nn.LayerNorm(C, bias=False)
        self.attn = nn.ModuleDict(dict(c_attn=nn.Linear(C, 3 * C, bias=False), c_proj=nn.Linear(C, C, bias=False)))
        self.ln_2 = nn.LayerNorm(C, bias=False)
        self.mlp = nn.ModuleDict(dict(c_fc=nn.Linear(C, 4 * C, bias=False), c_proj=nn.Linear(4 * C, C, bias=False)))

    def forward(self, x):
        B, L, _ = x.shape
        q, k, v = (t.view(B, L, H, C // H).transpose(1, 2) for t in self.attn.c_attn(self.ln_1(x)).split(C, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, L, C)
        x = x + self.attn.c_proj(y)
        return x + self.mlp.c_proj(F.gelu(self.mlp.c_fc(self.ln_2(x))))


class Tiny(nn.Module):
    """Keys and shapes of nanoGPT."""

    def __init__(self, tie):
        super().__init__()
        torch.manual_seed(0)
        self.transformer = nn.ModuleDict(dict(wte=nn.Embedding(V, C), wpe=nn.Embedding(T, C), h=nn.ModuleList([Block() for _ in range(N)]), ln_f=nn.LayerNorm(C, bias=False)))
        self.lm_head = nn.Linear(C, V, bias=False)
        if tie:
            self.transformer.wte.weight = self.lm_head.weight

    def forward(self, x):
        t = self.transformer
        h = t.wte(x) + t.wpe(torch.arange(x.shape[1]))
        for block in t.h:
            h = block(h)
        return self.lm_head(t.ln_f(h))


def optimizer_of(model):
    params = list(model.parameters())
    return torch.optim.AdamW([dict(params=[p for p in params if p.dim() >= 2], weight_decay=0.1), dict(params=[p for p in params if p.dim() < 2], weight_decay=0.0)], lr=1e-3)


def trained(model):
    optimizer = optimizer_of(model)
    for step in range(2):
        optimizer.zero_grad()
        x = (torch.arange(8).reshape(1, 8) * (step + 3)) % V
        F.cross_entropy(model(x).flatten(0, 1), x.flatten()).backward()
        optimizer.step()
    return optimizer


def accelerated(model, optimizer, directory):
    """As accelerate saves FSDP with sharded state dicts, and Trainer with it."""
    from types import SimpleNamespace
    from accelerate import PartialState
    from accelerate.utils.fsdp_utils import save_fsdp_model, save_fsdp_optimizer
    from torch.distributed.fsdp import StateDictType
    PartialState(cpu=True)
    plugin = SimpleNamespace(fsdp_version=2, state_dict_type=StateDictType.SHARDED_STATE_DICT, state_dict_config=SimpleNamespace(offload_to_cpu=False, rank0_only=False), cpu_ram_efficient_loading=False)
    accelerator = SimpleNamespace(num_processes=2, process_index=dist.get_rank(), wait_for_everyone=dist.barrier)
    save_fsdp_model(plugin, accelerator, model, directory)
    save_fsdp_optimizer(plugin, accelerator, optimizer, model, directory)
    if dist.get_rank() == 0:
        with open(f'{directory}/trainer_state.json', 'w') as file:
            json.dump(dict(global_step=2), file)


def rank(number, directory):
    os.chdir(directory)
    dist.init_process_group('gloo', init_method=f'file://{directory}/store', rank=number, world_size=2)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor
    mesh = init_device_mesh('cpu', (2,))
    model = Tiny(tie=False)
    for block in model.transformer.h:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = trained(model)
    weights, state = get_state_dict(model, optimizer)
    dcp.save(dict(model=weights, optimizer=state, step=2, note='x'), checkpoint_id='fsdp')
    _, flat = get_state_dict(model, optimizer, options=StateDictOptions(flatten_optimizer_state_dict=True))
    dcp.save({**weights, 'optimizer': flat, 'train_state': dict(step=torch.tensor(2))}, checkpoint_id='titan/step-2')
    accelerated(model, optimizer, 'trainer/checkpoint-2')
    os.makedirs('titan/step-10', exist_ok=True)  # a save that was cut short
    whole = {key: value.full_tensor() for key, value in weights.items()}
    moments = {f'{key}.{part}': value.full_tensor() for key, parts in state['state'].items() for part, value in parts.items() if part != 'step'}
    odd = torch.arange(21.).reshape(3, 7)
    grid = init_device_mesh('cpu', (1, 2))
    dcp.save(dict(
        uneven=distribute_tensor(odd, mesh, [Shard(0)]), columns=distribute_tensor(odd, mesh, [Shard(1)]), both=distribute_tensor(odd, grid, [Shard(0), Shard(1)]),
        row=distribute_tensor(torch.ones(1, 3), mesh, [Shard(0)]), copy=distribute_tensor(odd, mesh, [Replicate()]),
        half=distribute_tensor(odd.bfloat16(), mesh, [Shard(0)]), turned=odd.t(), nothing=torch.zeros(0, 3), scalar=torch.tensor(7),
        nested=dict(list=[dict(a=1), torch.ones(2)], tuple=(1, 'b'), plain=[1, 2.5], empty={}),
    ), checkpoint_id='shapes')
    if number == 0:
        torch.save(dict(whole=whole, moments=moments), 'expected.pt')
    dist.barrier()
    dist.destroy_process_group()


class App:
    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer

    def state_dict(self):
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return dict(model=model, optim=optimizer)

    def load_state_dict(self, state):
        set_state_dict(self.model, self.optimizer, model_state_dict=state['model'], optim_state_dict=state['optim'])


def make(directory):
    os.chdir(directory)
    mp.start_processes(rank, (directory,), nprocs=2, start_method='fork')
    model = Tiny(tie=True)
    optimizer = trained(model)
    dcp.save(dict(model=model.state_dict(), optimizer=optimizer.state_dict(), step=2), checkpoint_id='single')
    dcp.save(dict(app=App(model, optimizer)), checkpoint_id='app')
    torch.save(dict(model=model.state_dict(), optimizer=optimizer.state_dict(), step=2), 'single.pt')
    return {}


def check(directory):
    os.chdir(directory)
    results = {}
    expected = torch.load('expected.pt')
    for name in ['again-fsdp', 'new', 'again-trainer']:
        model = Tiny(tie=False)
        optimizer = optimizer_of(model)
        weights, state = get_state_dict(model, optimizer)
        if name == 'again-trainer':
            dcp.load(dict(model=weights), checkpoint_id=f'{name}/pytorch_model_fsdp_0')
            dcp.load(dict(optimizer=state), checkpoint_id=f'{name}/optimizer_0')
        else:
            dcp.load(dict(model=weights, optimizer=state), checkpoint_id=name)
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)
        _, state = get_state_dict(model, optimizer)
        moments = {f'{key}.{part}': value for key, parts in state['state'].items() for part, value in parts.items() if part != 'step'}
        results[name] = all(torch.equal(value, expected['whole'][key]) for key, value in model.state_dict().items())
        results[f'{name} moments'] = len(moments) > 0 and all(torch.equal(value, expected['moments'][key]) for key, value in moments.items())
        results[f'{name} steps'] = sorted({float(parts['step']) for parts in state['state'].values()})
        results[f'{name} decay'] = [group['weight_decay'] for group in state['param_groups']]
    model = Tiny(tie=True)
    optimizer = trained(model)
    saved = torch.load('single.pt')
    template = dict(model=Tiny(tie=True).state_dict(), optimizer=optimizer.state_dict(), step=0)
    for parts in template['optimizer']['state'].values():
        for value in parts.values():
            value.zero_()
    dcp.load(template, checkpoint_id='again-single')
    results['again-single'] = all(torch.equal(value, saved['model'][key]) for key, value in template['model'].items()) and all(
        torch.equal(value, saved['optimizer']['state'][index][part]) for index, parts in template['optimizer']['state'].items() for part, value in parts.items())
    results['again-single step'] = template['step']
    app = App(Tiny(tie=True), optimizer_of(Tiny(tie=True)))
    app.optimizer = optimizer_of(app.model)
    dcp.load(dict(app=app), checkpoint_id='again-app')
    results['again-app'] = all(torch.equal(value, saved['model'][key]) for key, value in app.model.state_dict().items())
    template = dict(a=torch.zeros(2, 3), b=dict(c=[torch.zeros(2, dtype=torch.bfloat16), dict(d=torch.tensor(0))], e=0, f=None))
    dcp.load(template, checkpoint_id='values')
    results['values'] = [template['a'].tolist(), template['b']['c'][0].tolist(), template['b']['c'][1]['d'].item(), template['b']['e'], template['b']['f']]
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
    dcp_to_torch_save('values', 'values.pt')
    results['converted'] = sorted(torch.load('values.pt', weights_only=False))
    return results


if __name__ == '__main__':
    print(json.dumps(dict(make=make, check=check)[sys.argv[1]](sys.argv[2])))
