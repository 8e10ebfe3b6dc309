"""The training loop, on lightning-fabric: from one core to many machines; an interrupted run continues.

RUN/config.json          the resolved config
RUN/log.jsonl            a line every `log_steps`, and one for each validation
RUN/checkpoint.pt        the last checkpoint
RUN/MODEL.safetensors    the averaged weights of the last checkpoint
RUN/best.safetensors     the averaged weights with the best validation
"""

import os
from contextlib import nullcontext
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from refsr.device import choose_device
from refsr.io.files import claim, clear_unfinished, make_folder
from refsr.io.progress import Progress, silent
from refsr.training.config import RunOptions, TrainConfig
from refsr.training.run import Report, Run, fabric_precision
from refsr.training.stage import Stage


def train(config: TrainConfig, options: RunOptions, report: Report = print, progress: Progress = silent) -> Path:
    """Begin or continue the run of a folder.

    Args:
        config: From the recipe.
        options: Everything else.
        report: Receives lines for the user.
        progress: Told the steps done, of how many.

    Returns:
        The path of the averaged weights.

    Raises:
        UsageError: The folder holds a run with other settings, or there is no data.
        ImageError: No picture of the data can be used.
        TrainingError: The loss is not finite any more.
        WeightsError: VGG19's weights are missing where they are needed, or `init` does not fit.
        OutputError: The folder cannot be written.
    """
    device = choose_device(options.device)
    fabric = Fabric(
        accelerator=device.type,
        devices=options.processes,
        num_nodes=options.nodes,
        **fabric_precision(config.precision, device),
        strategy=DDPStrategy(find_unused_parameters=True) if _is_distributed(options, device) else "auto",
    )
    fabric.launch()
    make_folder(options.output)
    leading = fabric.is_global_zero
    with claim(options.output / ".lock") if leading else nullcontext():
        if leading:
            clear_unfinished(options.output)
        told: tuple[Report, Progress] = (report, progress) if leading else (lambda _line: None, silent)
        run = Run(config, options, fabric, *told)
        _run_stages(run)
    if torch.distributed.is_initialized():
        # Left to the end of the process, its threads sometimes abort it.
        torch.distributed.destroy_process_group()
    return run.weights_path


def _run_stages(run: Run) -> None:
    """All stages that are not done yet."""
    first, pair = 0, 0
    for name, stage in run.config.stages:
        last = first + stage.steps
        if run.step < last and run.fabric.broadcast(run.time_left()) > 0:
            Stage(run, name, stage, first, pair).go()
        first, pair = last, pair + stage.steps * stage.batch * run.fabric.world_size
    if run.fabric.is_global_zero and not run.weights_path.exists():
        run.save_weights(run.weights_path)


def _is_distributed(options: RunOptions, device: torch.device) -> bool:
    """Whether there are several processes: by the options, or started by torchrun or SLURM."""
    started = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))
    several = options.processes != "auto" and options.processes > 1
    return started > 1 or several or options.nodes > 1 or (device.type == "cuda" and torch.cuda.device_count() > 1)
