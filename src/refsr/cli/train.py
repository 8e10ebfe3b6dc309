"""refsr train: training by a recipe."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter
from cyclopts.config import Yaml
from rich.console import Console

from refsr.cli.console import progress_bar
from refsr.cli.options import Output
from refsr.cli.quantities import parse_duration
from refsr.cli.verbs import verb
from refsr.errors import UsageError
from refsr.extras import import_extra
from refsr.training.config import RunOptions, TrainConfig

_DURATION: Final = Parameter(
    name="--time-limit", converter=lambda _, tokens: parse_duration(tokens[0].value), show_default=False
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunOptions):
    """Options of a run on the command line.

    Attributes:
        time_limit_s: Time limit of this stretch, such as 150min; by default none.
    """

    output: Output
    time_limit_s: Annotated[float, _DURATION] = 0.0


@verb
def train(
    recipe: Path,
    /,
    *settings: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    options: TrainOptions,
) -> None:
    """Train a model by a recipe; with the same --output, continue from the last checkpoint.

    Args:
        recipe: YAML file, such as recipes/default.yaml.

    Examples:
        refsr train recipes/default.yaml --data PHOTOS -o RUN
        refsr train recipes/default.yaml --data PHOTOS --data VIEWS -o RUN --validate DEV --time-limit 150min
        refsr train recipes/srntt-tiny.yaml --data PHOTOS -o RUN --vgg19 FILE --rec.steps 1000 --rec.crop-px 96 128
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
    inner.default(_read_config)
    config = inner(list(settings), exit_on_error=False, print_error=False, result_action="return_value")
    if config is None:
        raise UsageError(f"{recipe}: the recipe is empty: give it a model and stages, as in recipes/default.yaml")
    from refsr.training.loop import train as run_training

    with progress_bar("steps") as progress:
        console = Console(highlight=False)
        weights = run_training(config, options, lambda line: console.print(line, soft_wrap=True), progress)
    print(weights)


def _read_config(config: Annotated[TrainConfig | None, Parameter(name="*")] = None) -> TrainConfig | None:
    """The recipe's settings, overridden by those of the command line."""
    return config
