"""Scenarios that two processes run together, for `tests/system/test_distributed.py`.

`torchrun --nproc-per-node 2 -m tests.support.processes FOLDER` writes the results of each process to FOLDER. The tests
compare them with one process that has the whole batch. `page` after the folder runs the page on several GPUs instead;
`zero3` runs DeepSpeed's ZeRO-3.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import open_clip
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FullStateDictConfig,
    FullyShardedDataParallel,
    StateDictType,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import vilt_prompt
from tests.docs.test_code_blocks import python_blocks
from tests.support import architectures, zoo
from vilt_prompt.towers.blocks import Block
from vilt_prompt.towers.families import text_tower, vision_tower

PAGE = Path(__file__).parents[2] / "docs" / "several-gpus.md"
OTHERS = ("siglip", "coca", "mt5")  # a logit bias, a dict of outputs and captions, a Hugging Face tower
METHODS = ("vilt", "maple", "independent", "coop", "vpt_shallow", "vpt_deep")
FRAME_MASK = torch.tensor([[True, True, True, False, False]] * 2 + [[True] * 5, [True, False, True, True, False]])
LABELS = torch.tensor([0, 1, 2, 1])
# The modules that are sharded besides the whole model: each way once, then towers that keep weights in other places.
BOTH = ("blocks", "towers")
SHARDED = (
    *(("4/4", units) for units in ((), ("blocks",), ("towers",))),
    *((name, BOTH) for name in ("4/4", "custom_text", "coca", "relpos", "eva02", "mt5", "nllb")),
)
STEPS = 3


def build(name: str) -> nn.Module:
    return architectures.build(name) if name in architectures.ARCHITECTURES else zoo.build(name)


def wrapped(name: str = "4/4", method: str = "vilt") -> nn.Module:
    """The named model with prompts that are large enough to matter, the same in every process."""
    torch.manual_seed(0)
    model = vilt_prompt.wrap(build(name), K=2, n_ctx=3, method=method)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(5)
    return model


def videos(name: str = "4/4") -> Tensor:
    return architectures.frames(build(name), 4, 5)


def texts(name: str = "4/4", rows: int = 3) -> Tensor:
    lengths = [1, 4, 2, 3][:rows]
    if name in architectures.ARCHITECTURES:
        return architectures.class_ids(build(name), lengths)
    return zoo.text_ids(name, lengths)


def loss(video_features: Tensor, text_features: Tensor, labels: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    scenario = torch.nn.functional.normalize(torch.randn(text_features.shape, generator=generator), dim=-1)
    return vilt_prompt.ScenarioGuidedLoss(scenario)(video_features, text_features, labels)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """The whole parameters of a model or its wrapper, under the names that they have in one process."""
    return {
        name.removeprefix("module."): whole(parameter.grad).clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def train(run: Callable[..., tuple], parameters: list[nn.Parameter], rows: slice) -> list[float]:
    """A few steps of plain SGD, whose outcome depends on the gradients in proportion. The loss of each."""
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        video_features, text_features, *_ = run(video=videos()[rows], text=texts())
        step_loss = loss(video_features, text_features, LABELS[rows])
        step_loss.backward()
        optimizer.step()
        losses.append(step_loss.item())
    return losses


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def half(rank: int) -> slice:
    return slice(2 * rank, 2 * rank + 2)


def uneven_frames(rank: int) -> tuple[Tensor, Tensor | None]:
    """Three frames in one process, five with a mask in the other."""
    return (videos()[half(0), :3], None) if rank == 0 else (videos()[half(1)], FRAME_MASK[half(1)])


# DistributedDataParallel


def ddp_method(method: str, rank: int) -> dict:
    """Two steps: an unused parameter is noticed at the beginning of the second."""
    ddp = DistributedDataParallel(wrapped(method=method))
    for _ in range(2):
        ddp.zero_grad()
        video_features, text_features, _ = ddp(video=videos()[half(rank)], text=texts())
        loss(video_features, text_features, LABELS[half(rank)]).backward()
    return gradients(ddp)


def ddp_uneven_frames(rank: int) -> dict:
    ddp = DistributedDataParallel(wrapped())
    frames, mask = uneven_frames(rank)
    video_features, text_features, _ = ddp(frames, texts(), frame_mask=mask)
    loss(video_features, text_features, LABELS[half(rank)]).backward()
    return gradients(ddp)


def ddp_accumulation(rank: int) -> dict:
    """One video at a time; gradients are shared out once, after the last."""
    ddp = DistributedDataParallel(wrapped())
    first, last = range(4)[half(rank)]

    def backward(row: int) -> None:
        video_features, text_features, _ = ddp(videos()[row : row + 1], texts())
        (loss(video_features, text_features, LABELS[row : row + 1]) / 2).backward()

    with ddp.no_sync():
        backward(first)
    own = gradients(ddp)
    backward(last)
    return {"own": own, "shared": gradients(ddp)}


def pairs(model: nn.Module, name: str, rows: slice) -> Tensor:
    """A loss over videos and as many texts that is a mean over the rows."""
    outputs = model(videos(name)[rows], texts(name, rows=4)[rows])
    features = [outputs["image_features"], outputs["text_features"]] if isinstance(outputs, dict) else [*outputs][:2]
    weights = torch.arange(features[0].shape[-1]).float().cos()
    return (features[0].sin() @ weights).mean() + (features[1].sin() @ weights).mean()


def ddp_other(name: str, rank: int) -> dict:
    ddp = DistributedDataParallel(wrapped(name))
    for _ in range(2):
        ddp.zero_grad()
        pairs(ddp, name, half(rank)).backward()
    return gradients(ddp)


def ddp_two_calls(rank: int) -> dict:
    """Videos and texts one after the other, the loss over both."""
    ddp = DistributedDataParallel(wrapped())
    for _ in range(2):
        ddp.zero_grad()
        video_features, text_features = ddp(video=videos()[half(rank)])[0], ddp(text=texts())[1]
        loss(video_features, text_features, LABELS[half(rank)]).backward()
    return gradients(ddp)


def ddp_clip_loss(local_loss: bool, checkpointing: bool, rank: int) -> dict:
    """open_clip's own loss over the pairs of all processes."""
    model = wrapped()
    model.set_grad_checkpointing(checkpointing)
    ddp = DistributedDataParallel(model)
    criterion = open_clip.ClipLoss(local_loss=local_loss, gather_with_grad=True, rank=rank, world_size=2)
    criterion(*ddp(videos()[half(rank)], texts(rows=4)[half(rank)])).backward()
    return gradients(ddp)


def ddp_video_only(find_unused_parameters: bool, rank: int) -> dict:
    ddp = DistributedDataParallel(wrapped(), find_unused_parameters=find_unused_parameters)
    for _ in range(2):
        ddp.zero_grad()
        ddp(videos()[half(rank)])[0].square().cumsum(1).mean().backward()
    return gradients(ddp)


def ddp_training(folder: Path, rank: int) -> dict:
    """All processes start from the first one's prompts, whatever their seed, and the first one saves them."""
    model = wrapped()
    with torch.no_grad():
        for parameter in trainable(model):
            parameter.add_(rank)
    ddp = DistributedDataParallel(model)
    train(ddp, trainable(model), half(rank))
    if rank == 0:
        model.save_pretrained(folder / "ddp")
    return dict(model.prompts.named_parameters())


# FSDP2


@cache
def cpus() -> DeviceMesh:
    return init_device_mesh("cpu", (2,))


def shard(model: nn.Module, units: tuple[str, ...], **settings) -> nn.Module:
    """`fully_shard` on the parts that are named, and on the whole."""
    mesh = cpus()
    clip = model.get_base_model()
    towers = vision_tower(clip), text_tower(clip)
    blocks = [[block.module for block in tower.blocks] for tower in towers]
    if "blocks" in units:
        for block in blocks[0] + blocks[1]:
            fully_shard(block, mesh=mesh, **settings)
    if "towers" in units:
        for tower in (clip.visual, getattr(clip, "text", None) or clip.transformer):
            fully_shard(tower, mesh=mesh, **settings)
    scalars = {parameter for parameter in model.parameters() if parameter.ndim == 0}
    return fully_shard(model, mesh=mesh, ignored_params=scalars, **settings)


def fsdp(name: str, units: tuple[str, ...], rank: int) -> dict:
    """Features and gradients, by way of methods, for CoCa's forward wants a caption for each video."""
    model = shard(wrapped(name), units)
    for method in ("encode_video", "encode_text"):
        register_fsdp_forward_method(model, method)
    for _ in range(2):
        model.zero_grad()
        video_features = model.encode_video(videos(name)[half(rank)], frames_per_chunk=4)
        text_features = model.encode_text(texts(name))
        loss(video_features, text_features, LABELS[half(rank)]).backward()
    return {"video": video_features.detach(), "text": text_features.detach(), "gradients": gradients(model)}


def fsdp_forward(checkpointing: bool, rank: int) -> dict:
    """The model's own forward, on other numbers of frames in each process.

    Afterwards the blocks' weights are in shards again; and blocks are still taken apart.
    """
    model = wrapped()
    model.set_grad_checkpointing(checkpointing)
    shard(model, ("blocks",))
    frames, mask = uneven_frames(rank)
    video_features, text_features, _ = model(frames, texts(), frame_mask=mask)
    weights = list(model.visual.transformer.resblocks.parameters())
    in_shards = [isinstance(weight, DTensor) and weight.to_local().numel() < weight.numel() for weight in weights]
    loss(video_features, text_features, LABELS[half(rank)]).backward()
    taken_apart = [isinstance(block, Block) for block in vision_tower(model.get_base_model()).blocks]
    return {"in shards": all(in_shards), "taken apart": all(taken_apart), "gradients": gradients(model)}


def fsdp_without_adapter(rank: int) -> dict:
    model = shard(wrapped(), BOTH)
    with model.disable_adapter(), torch.no_grad():
        video_features, text_features, _ = model(videos(), texts())
    return {"video": video_features, "text": text_features}


def fsdp_training(folder: Path, rank: int) -> dict:
    """Every process takes part in putting the prompts together, one writes them."""
    model = shard(wrapped(), BOTH)
    train(model, trainable(model), half(rank))
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    state_dict = get_model_state_dict(model, options=options)
    if rank == 0:
        model.save_pretrained(folder / "fsdp", state_dict=state_dict)
    return {name: whole(parameter) for name, parameter in model.prompts.named_parameters()}


def refusal(model: nn.Module, folder: Path) -> str:
    """What saving without `state_dict` says. One process alone does not wait for the others."""
    try:
        model.save_pretrained(folder)
    except ValueError as error:
        return str(error)
    return "saved"


def fsdp_without_state_dict(folder: Path, rank: int) -> dict:
    model = shard(wrapped(), BOTH)
    alone = refusal(model, folder / "unsaved") if rank == 0 else ""
    return {"all": refusal(model, folder / "unsaved"), "alone": alone}


def fsdp1_training(folder: Path, units: str, rank: int) -> dict:
    """FSDP1 around the whole model or around each block too; the first process gets whole tensors, and saves."""
    model = wrapped()
    policy = ModuleWrapPolicy({open_clip.transformer.ResidualAttentionBlock}) if units == "blocks" else None
    scalars = [parameter for parameter in model.parameters() if parameter.ndim == 0]
    options = {"device_id": torch.device("cpu"), "use_orig_params": True, "ignored_states": scalars}
    fsdp1 = FullyShardedDataParallel(model, auto_wrap_policy=policy, **options)
    losses = train(fsdp1, trainable(model), half(rank))
    without = refusal(model, folder / "unsaved")
    settings = FullStateDictConfig(offload_to_cpu=True, rank0_only=True)
    with FullyShardedDataParallel.state_dict_type(fsdp1, StateDictType.FULL_STATE_DICT, settings):
        state_dict = fsdp1.state_dict()
    model.save_pretrained(folder / f"fsdp1 {units}", is_main_process=rank == 0, state_dict=state_dict)
    prompts = sum("prompts." in name for name in state_dict)
    return {"losses": losses, "without": without, "prompts": prompts}


# DeepSpeed


def zero3_training(folder: Path, rank: int) -> dict:
    """ZeRO-3: the first process gets whole tensors, the other one None."""
    import deepspeed

    # It reduces faster on CPUs, and takes minutes to compile.
    importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None
    model = wrapped()
    clip = model.get_base_model()
    clip.logit_scale = nn.Parameter(clip.logit_scale.detach().reshape(1), requires_grad=False)  # it takes no scalars
    settings = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_clipping": 0.0,  # unless it is given, the norm of all gradients is clipped to 1
        "zero_optimization": {
            "stage": 3,
            "stage3_param_persistence_threshold": 0,  # nothing is too small
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
    }
    optimizer = torch.optim.SGD(trainable(model), lr=0.01, momentum=0.9)
    engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    losses = []
    for _ in range(STEPS):
        video_features, text_features, *_ = engine(video=videos()[half(rank)], text=texts())
        step_loss = loss(video_features, text_features, LABELS[half(rank)])
        engine.backward(step_loss)
        engine.step()
        losses.append(step_loss.item())
    without = refusal(model, folder / "unsaved") if rank == 0 else ""
    state_dict = engine._zero3_consolidated_16bit_state_dict()  # what Accelerate's get_state_dict returns
    model.save_pretrained(folder / "zero3", is_main_process=rank == 0, state_dict=state_dict)
    return {"losses": losses, "without": without, "whole": state_dict is not None}


def page(folder: Path) -> None:
    """Runs the page's blocks.

    They make a process group themselves. Gloo cannot be trusted to connect a second one in the same processes: under
    load, each may meet leftovers of the other's first load, and both wait forever.
    """
    os.chdir(folder)
    generator = torch.Generator().manual_seed(int(os.environ["RANK"]))
    names = {"loader": [(torch.randn(2, 3, 3, 64, 64, generator=generator), torch.tensor([0, 1])) for _ in range(2)]}
    for block in python_blocks(PAGE):
        exec(compile(block, PAGE.name, "exec"), names)
    print(f"loss {names['loss'].item()}")


def scenarios(folder: Path) -> dict[str, Callable[[int], dict]]:
    return {
        **{f"ddp {method}": partial(ddp_method, method) for method in METHODS},
        **{f"ddp {name}": partial(ddp_other, name) for name in OTHERS},
        "ddp uneven frames": ddp_uneven_frames,
        "ddp accumulation": ddp_accumulation,
        "ddp two calls": ddp_two_calls,
        "ddp clip loss": partial(ddp_clip_loss, False, False),
        "ddp local clip loss": partial(ddp_clip_loss, True, False),
        "ddp checkpointing": partial(ddp_clip_loss, True, True),
        "ddp video only": partial(ddp_video_only, False),
        "ddp video only, unused found": partial(ddp_video_only, True),
        "ddp training": partial(ddp_training, folder),
        **{f"fsdp {name} {units}": partial(fsdp, name, units) for name, units in SHARDED},
        "fsdp forward": partial(fsdp_forward, False),
        "fsdp checkpointing": partial(fsdp_forward, True),
        "fsdp without adapter": fsdp_without_adapter,
        "fsdp training": partial(fsdp_training, folder),
        "fsdp without state_dict": partial(fsdp_without_state_dict, folder),
        **{f"fsdp1 {units}": partial(fsdp1_training, folder, units) for units in ("model", "blocks")},
    }


def main(folder: Path, only: str | None = None) -> None:
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    rank = dist.get_rank()
    outcomes: dict[str, dict | str] = {}
    chosen = {only: partial(zero3_training, folder)} if only == "zero3" else scenarios(folder)
    for name, scenario in chosen.items():
        try:
            outcomes[name] = scenario(rank)
        except Exception:
            outcomes[name] = traceback.format_exc()
        dist.barrier()
    torch.save(outcomes, folder / f"{only or ''}{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    if sys.argv[2:] == ["page"]:
        page(Path(sys.argv[1]))
    else:
        main(Path(sys.argv[1]), *sys.argv[2:])
