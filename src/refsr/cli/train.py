"""refsr train: a recipe, data, a folder for the run."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.config import Yaml
from rich.console import Console

from refsr.cli.console import count_bar
from refsr.cli.quantities import parse_duration
from refsr.errors import UsageError
from refsr.extras import import_extra
from refsr.training.config import RunOptions, TrainConfig

_Many = Parameter(negative=())


def train(recipe: Path, /, *settings: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]) -> None:
    """Train a model by a recipe; the same --out again goes on from its last checkpoint.

    Options: --data DIR (photographs, or pairs of `refsr pairs`; again for more), --out RUN, --vgg19 FILE,
    --init WEIGHTS, --validate DATASET, --held-out DIR (pictures not to be trained on; again for more),
    --time-limit 150min, --tensorboard, --accelerator auto|cpu|cuda|mps, --devices N, --nodes N; and every setting of
    the recipe, such as --rec.steps 1000 or --default.width 64.

    Args:
        recipe: YAML file, such as recipes/default.yaml.
    """
    import_extra("lightning_fabric", "training")
    import_extra("yaml", "training")
    if not recipe.is_file():
        raise UsageError(f"{recipe}: no such recipe: give a YAML file, such as recipes/default.yaml")
    inner = App(
        name="refsr train",
        config=Yaml(recipe, allow_unknown=False),
        help_flags=(),
        version_flags=(),
        default_parameter=Parameter(consume_multiple=True),  # --rec.crop-px 96 128 160
    )
    inner.default(_train)
    inner(list(settings), exit_on_error=False, print_error=False, result_action="return_value")


def _train(
    config: Annotated[TrainConfig | None, Parameter(name="*")] = None,
    *,
    data: Annotated[list[Path], _Many],
    out: Path,
    vgg19: Path | None = None,
    init: Path | None = None,
    validate: Path | None = None,
    held_out: Annotated[list[Path] | None, _Many] = None,
    time_limit: str | None = None,
    tensorboard: Annotated[bool, _Many] = False,
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    devices: str = "auto",
    nodes: int = 1,
) -> None:
    """The options of `train`, merged with its recipe."""
    if config is None:
        raise UsageError("the recipe is empty: give it a model and stages, as recipes/default.yaml has them")
    from refsr.training.loop import train as run_training

    options = RunOptions(
        data=tuple(data),
        out=out,
        vgg19=vgg19,
        init=init,
        validate=validate,
        held_out=tuple(held_out or ()),
        time_limit_s=parse_duration(time_limit) if time_limit else 0.0,
        tensorboard=tensorboard,
        accelerator=accelerator,
        devices=devices,
        nodes=nodes,
    )
    with count_bar("steps") as progress:
        console = Console(highlight=False)
        weights = run_training(config, options, lambda line: console.print(line, soft_wrap=True), progress)
    print(weights)
