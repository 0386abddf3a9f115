"""The `factory` command: its sub-commands, and errors turned into exit codes."""

import re
import signal
import sys
import threading
from typing import Annotated, Any

import typer

import factory
from factory.cli import captures, corners, coverages, datasets, diagnoses, networks, reports, stores, vectors
from factory.cli.cache import use_compilation_cache
from factory.spec import ComparisonError, FactoryError

app = typer.Typer(
    name="factory",
    help="Golden vectors for systolic arrays: every psum of a quantized network, exact, as HDF5 and memory files. "
    "Weights of a VGG16 (`part1`) and of a ResNet20 (`resnet20`) ship.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_UsageError = typer.BadParameter.__base__  # the only name that typer has for any of them
for module in (stores, captures, corners, vectors, datasets, diagnoses, coverages, networks, reports):
    module.add_commands(app)


def _print_version(wanted: bool | None) -> None:
    if wanted:
        print(f"factory {factory.__version__}")
        raise typer.Exit


@app.callback()
def _factory(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = None,
) -> None:
    pass


def main() -> None:
    """Run the command line. Exit code 0: done; 1: a comparison failed; 2: something given is not what it must be."""
    if hasattr(signal, "SIGPIPE"):  # a reader that has seen enough ends the command, as it ends any other
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    interrupts = _note_interrupts()
    use_compilation_cache()
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except _UsageError as error:
        named = " ".join(["factory", *(word for word in sys.argv[1:2] if not word.startswith("-"))])
        context = error.ctx.command_path if error.ctx else named
        _stop(_one_line(f"{error.format_message().rstrip('.')}; see {context} --help"), 2)
    except typer.Abort:
        sys.exit(130)
    except FactoryError as error:
        text = str(error) if isinstance(error, ComparisonError) else _one_line(_with_flags(error, sys.argv[1:]))
        _stop(text, error.exit_code)
    except MemoryError as error:
        _stop(_one_line(f"not enough memory: {error}"), 2)
    except OSError as error:
        _stop(_one_line(f"{error.filename or 'input/output'}: {error.strerror or error}"), 2)
    except Exception:
        if interrupts:  # an extension that is being imported makes an ImportError of it
            sys.exit(130)
        raise


def _note_interrupts() -> list[int]:
    """Return a list that holds something once Ctrl-C was pressed, and let none be lost.

    A callback of the garbage collector, which JAX has, would lose it: then it comes once more.
    """
    pressed: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    def again(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            main = threading.main_thread().ident
            threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)).start()  # after the callback; ends a wait
        else:
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = again
    signal.signal(signal.SIGINT, interrupt)
    return pressed


def _with_flags(error: FactoryError, words: list[str]) -> str:
    """Return an error's message with the parameters that it names as flags: `pe_activation` as `--pe-activation`.

    These are its `options`, and the word that it begins with where the command that `words` call has such a flag.
    """
    text = str(error)
    command = typer.main.get_command(app)
    while words and (called := getattr(command, "commands", {}).get(words[0])):
        command, words = called, words[1:]
    flags = {name for parameter in command.params for name in parameter.opts}
    for option in getattr(error, "options", ()):
        text = re.sub(rf"(?<!\S){option}(?![^\s,])", _flag(option), text)
    return re.sub(r"^\w+(?= must )", lambda word: flag if (flag := _flag(word[0])) in flags else word[0], text)


def _flag(parameter: str) -> str:
    return f"--{parameter.replace('_', '-')}"


def _one_line(message: str) -> str:
    return " ".join(message.split())


def _stop(message: str, code: int) -> None:
    print(f"factory: {message}", file=sys.stderr)
    sys.exit(code)
