"""Commands that make trained weights and judge them: import, train, data, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.cli import options
from factory.spec import InputError

if TYPE_CHECKING:
    from factory.evaluate import ReferenceComparison

Network = Annotated[
    str,
    typer.Option("--network", help="`part1`, `part2`, `resnet20` (32, 44, 56), or a TOML file that describes one."),
]
Dtype = Annotated[str, typer.Option(help="What convolutions are computed in: `float32` or `bfloat16`.")]


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("import")(import_)
    app.command()(train)
    app.command()(evaluate)
    data = typer.Typer(rich_markup_mode=None)
    data.command()(cifar10)
    app.add_typer(data, name="data", help="Fetch images to train on and to build stores from.")
    data.callback()(_data)


def _data() -> None:
    """Fetch images to train on and to build stores from."""


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="A torch checkpoint of the notebook, `model_best.pth.tar`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The weights to write, NAME.safetensors.")],
    network: Network = "auto",
    force: options.Force = False,
) -> None:
    """Read a torch checkpoint of the notebook, check it, and write the weights that the other commands take."""
    from factory.checkpoint import import_checkpoint, save_weights

    if output.exists() and not force:
        raise InputError(f"{output}: is there already; --force replaces it")
    trained = import_checkpoint(checkpoint, network)
    save_weights(trained, output)
    print(f"{output}  {trained.network.name}  sha256 {trained.sha256}")
    if network == "auto" and trained.network.streams:
        if bare := [spec.name for spec in trained.network.layers if not spec.batch_norm]:
            print(f"no batch norm is there after {' '.join(bare)}")
        bits = trained.network.last
        print(
            f"weights have {bits.weight_bits} bits; activations {bits.activation_bits}, which no checkpoint states: "
            "--network FILE.toml says others"
        )


def train(
    data: Annotated[str, typer.Option("--data", help="A folder of CIFAR-10's binary or python files.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="The folder of the run.")],
    network: Network = "part1",
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 300,
    batch: Annotated[int, typer.Option(help="Images in a step.")] = 128,
    lr: Annotated[float, typer.Option(help="Learning rate at the start.")] = 0.1,
    schedule: Annotated[str, typer.Option(help="`step` (x 0.1 at epochs 150 and 225) or `cosine` (to 0).")] = "step",
    momentum: Annotated[float, typer.Option(help="Momentum of SGD.")] = 0.9,
    weight_decay: Annotated[float, typer.Option(help="Decay of the weights.")] = 1e-4,
    label_smoothing: Annotated[float, typer.Option(help="Share of each label spread over all classes.")] = 0.0,
    dtype: Dtype = "float32",
    seed: Annotated[int, typer.Option(help="Seed of the weights, the order of the images and their augmentation.")] = 0,
    init: Annotated[
        str | None, typer.Option(help="A torch checkpoint or weights to start from; default: none.")
    ] = None,
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Take the layers of --init that fit, and start the others anew.")
    ] = False,
    checkpoint_steps: Annotated[int, typer.Option(help="Steps between checkpoints within an epoch; 0: none.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
) -> None:
    """Train a quantized network; RUN/best.safetensors are weights for `factory build --weights`."""
    from factory.train import TrainConfig, fit

    config = TrainConfig(
        network,
        data,
        epochs,
        batch,
        lr,
        schedule,
        momentum=momentum,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        dtype=dtype,
        seed=seed,
        init=init,
        transfer=transfer,
        checkpoint_steps=checkpoint_steps,
    )
    with options.training_meter() as report:
        result = fit(config, output, resume=resume, report=report)
    print(f"{result.weights}  epoch {result.best.epoch + 1}  test accuracy {100 * result.best.test_accuracy:.2f} %")


def evaluate(
    images: Annotated[str | None, typer.Option("--images", metavar="SOURCE", help=options.SOURCE_HELP)] = None,
    weights: options.Weights = None,
    split: options.Split = "test",
    pick: options.Pick = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="NPZ", help="Codes, accumulators and logits of another program, to compare with."),
    ] = None,
) -> None:
    """Print correct / total of the float and of the integer network, and how they compare with a reference."""
    from factory.evaluate import compare_with_reference, evaluate

    if images is None and reference is None:
        raise InputError("evaluate needs --images or --reference, neither is given")
    if images is None and (split, pick) != ("test", None):
        raise InputError("--split and --pick choose from --images, which is not given")
    if images is not None:
        with options.progress_bar() as progress:
            result = evaluate(images, weights, split, pick, progress)
        for name, correct in (("float", result.float_correct), ("integer", result.integer_correct)):
            print(f"{name:<8} {correct} / {result.total}  {100 * correct / result.total:.2f} %")
        print(f"predictions that differ: {result.differing}")
        for first in result.first_differences:
            print(
                f"  {first.images}: the first code that differs enters {first.layer}, "
                f"at most {first.distance:.1e} codes from a rounding boundary"
            )
    if reference is not None:
        _print_comparison(compare_with_reference(reference, weights))


def _print_comparison(result: ReferenceComparison) -> None:
    from factory.tables import styled, table, terminal_width

    groups = (
        ("layer",),
        ("weights", "accumulators"),
        ("next codes, fed", "farthest from a boundary"),
        ("codes, end to end",),
    )
    rows = [
        (
            layer.name,
            layer.weights_differ,
            layer.accumulators_differ,
            f"{layer.fed_differ} of {layer.fed_codes}",
            f"{layer.fed_distance:.1e}" if layer.fed_differ else "-",
            f"{layer.end_to_end_differ} of {layer.end_to_end_codes}",
        )
        for layer in result.layers
    ]
    print("values that differ from the reference's:")
    print(styled(table(groups, rows, terminal_width())))
    print(
        f"predictions of {result.images} images that differ: float {result.float_predictions_differ}, "
        f"integer {result.integer_predictions_differ}; logits within {result.logits_distance:.1e}"
    )


def cifar10(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where cifar-10-batches-bin goes.")],
    local: Annotated[
        Path | None, typer.Option(help="A copy that is here already: cifar-10-binary.tar.gz, or a folder.")
    ] = None,
) -> None:
    """Fetch CIFAR-10 from its official site, check its sha256, and unpack it."""
    from factory.images.fetch import fetch_cifar10

    print(fetch_cifar10(folder, local=local))
