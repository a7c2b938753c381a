"""The command line: a thin layer over the package. Heavy imports happen inside the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import __version__
from .registry import HEADS

SECTIONS = ("heads", "codec", "labels", "parts", "start", "memory", "growth")
COMMANDS = ("encode", "decode", "analyze", "inspect", "train", "evaluate", "benchmark", "zoo", "demo")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: words of the command line; by default those of the process.

    Returns:
        the exit status: 0, or 1 for a failure, with one line on standard error.

    Raises:
        SystemExit: with status 2 for wrong usage, 0 for ``--help`` and ``--version``.
    """
    options = _parsed(arguments)
    try:
        from . import commands
        from .console import any_name, say
        from .notices import shown

        any_name()
        with shown(say):
            return getattr(commands, options.command)(options)
    except KeyboardInterrupt:
        print(f"cdanalysis {options.command}: interrupted", file=sys.stderr)
        return 1
    except Exception as error:
        from .faults import sentence

        if options.traceback:
            raise
        print(f"cdanalysis {options.command}: {sentence(error)}", file=sys.stderr)
        return 1


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; what is named after the options belongs to what was named before them."""
    top = parser()
    options, more = top.parse_known_args(arguments)
    named = next((getattr(options, name) for name in ("overrides", "inputs", "sections") if name in options), None)
    if more and (named is None or any(word.startswith("-") for word in more)):
        top.error(f"unrecognized arguments: {' '.join(more)}")
    if more and "overrides" in options and not all("=" in word for word in more):
        top.error(f"not key=value: {' '.join(word for word in more if '=' not in word)}")
    if more and named is not None:
        named += more
    return options


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="cdanalysis", description="Compressed-domain multi-task image analysis.")
    top.add_argument("--version", action="version", version=f"cdanalysis {__version__}")
    sub = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _encode(sub)
    _decode(sub)
    _analyze(sub)
    _inspect(sub)
    _train(sub)
    _evaluate(sub)
    _benchmark(sub)
    _zoo(sub)
    _demo(sub)
    return top


def quality(text: str) -> float | tuple[float, float]:
    """``0.5``, or ``0.3,0.7`` for the semantic and the detail layer."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}") from None
    if len(numbers) > 2 or not all(0 <= number <= 1 for number in numbers):
        raise argparse.ArgumentTypeError(f"quality lies in [0, 1], one number or two with a comma; got {text!r}")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def budget(text: str) -> float | tuple[float, float]:
    """``20000``, or ``500,19000`` for the semantic and the detail layer."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}") from None
    if len(numbers) > 2 or not all(number > 0 for number in numbers):
        raise argparse.ArgumentTypeError(f"a budget is a number above 0, or two with a comma; got {text!r}")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def pixels(text: str) -> int:
    """A number of pixels."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of pixels is a whole number above 0; got {text!r}")
    return int(text)


def importance(text: str) -> str | list[tuple[float, ...]]:
    """Boxes ``X,Y,W,H;X,Y,W,H`` as numbers; anything else names a model or a file."""
    try:
        boxes = [tuple(float(number) for number in box.split(",")) for box in text.split(";")]
    except ValueError:
        return text
    if not all(len(box) == 4 for box in boxes):
        raise argparse.ArgumentTypeError(f"a box is four numbers X,Y,W,H; got {text!r}")
    return boxes


def _command(sub, name: str, help: str, model: bool = True) -> argparse.ArgumentParser:
    command = sub.add_parser(name, help=help, description=help)
    command.add_argument("--json", action="store_true", help="print one JSON object to standard output")
    _traceback(command)
    if model:
        command.add_argument("--model", default="photo", help="zoo name or folder of a model (default: photo)")
        command.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    return command


def _traceback(command: argparse.ArgumentParser) -> None:
    command.add_argument("--traceback", action="store_true", help="show Python's traceback if the command fails")


def _overwrite(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--overwrite", action="store_true", help="also overwrite files that this library did not write"
    )


def _files(command: argparse.ArgumentParser) -> None:
    """What commands that work on many files have in common."""
    command.add_argument(
        "--workers", type=int, help="number of processes (default: one per core for many files, else one)"
    )
    command.add_argument("--runner", choices=("local", "ray"), default="local", help="this machine, or a Ray cluster")
    command.add_argument("--overwrite", action="store_true", help="redo all files, and overwrite any file but an input")
    command.add_argument("--strict", action="store_true", help="stop at the first file that fails")
    command.add_argument("--max-pixels", type=pixels, help="maximum pixels of a photograph (default: 2^28)")


def _encode(sub) -> None:
    command = _command(sub, "encode", "encode photographs into .cda streams")
    command.add_argument("inputs", nargs="+", help="image files, or folders of them")
    command.add_argument(
        "-o", "--output", help="a .cda file for one input, otherwise a folder (default: next to each input)"
    )
    rate = command.add_mutually_exclusive_group()
    rate.add_argument("--quality", type=quality, help="in [0, 1], or SEMANTIC,DETAIL (default: 0.5)")
    rate.add_argument("--bpp", type=budget, help="maximum bits per pixel of a stream, or SEMANTIC,DETAIL")
    rate.add_argument("--max-bytes", type=budget, help="maximum size of a stream in bytes, or SEMANTIC,DETAIL")
    command.add_argument(
        "--importance",
        type=importance,
        help="region of interest: 'saliency', an .onnx network, a mask image, or boxes X,Y,W,H;...",
    )
    command.add_argument("--layers", choices=("semantic", "all"), default="all", help="layers to write (default: all)")
    _files(command)


def _decode(sub) -> None:
    command = _command(sub, "decode", "decode streams into PNG images")
    command.add_argument("inputs", nargs="+", help=".cda files, or folders of them")
    command.add_argument(
        "-o", "--output", help="an image file for one input, otherwise a folder (default: next to each)"
    )
    command.add_argument(
        "--preview", action="store_true", help="accept streams without a detail layer and write a rough picture"
    )
    _files(command)


def _analyze(sub) -> None:
    command = _command(sub, "analyze", "predict labels, boxes and masks from streams, without decoding them")
    command.add_argument("inputs", nargs="+", help=".cda files, or folders of them")
    command.add_argument("--tasks", nargs="+", help="tasks to run (default: all of the model's)")
    command.add_argument(
        "-o", "--output", help="folder or file for predictions (JSON) and segmentations (PNG of class indices)"
    )
    _files(command)


def _inspect(sub) -> None:
    command = _command(sub, "inspect", "show what the headers of streams say", model=False)
    command.add_argument("inputs", nargs="+", help=".cda files, or folders of them")
    command.add_argument(
        "--bits-map", help="also draw the bits spent per place: a PNG file, or a folder; needs the model"
    )
    command.add_argument("--model", help="the model that wrote them, for --bits-map (default: photo)")
    _overwrite(command)


def _train(sub) -> None:
    command = sub.add_parser("train", help="train a model from a recipe", description="train a model from a recipe")
    command.add_argument("recipe", help="YAML file")
    command.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides of the recipe; preset=NAME picks a preset"
    )
    command.add_argument("-o", "--output", help="folder of the run (default: runs/NAME)")
    command.add_argument("--resume", action="store_true", help="resume from the folder's checkpoint")
    command.add_argument("--threads", type=int, help="number of CPU threads")
    command.add_argument("--overwrite", action="store_true", help="discard an interrupted run and start anew")
    _traceback(command)


def _evaluate(sub) -> None:
    command = _command(sub, "evaluate", "measure rate, reconstruction and accuracy on a folder of photographs")
    command.add_argument(
        "photographs", help="folder or tar archive of images (subfolders name the classes), or a study's YAML file"
    )
    command.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides of a study; preset=NAME picks a preset"
    )
    command.add_argument("--quality", type=quality, nargs="+", help="qualities to measure (default: 0.25 0.5 0.75)")
    tasks = ("reconstruction", *HEADS)
    command.add_argument(
        "--tasks",
        nargs="+",
        choices=tasks,
        help="default: classification, where there are class folders, and reconstruction",
    )
    command.add_argument("--annotations", help="COCO JSON file, for detection")
    command.add_argument("--every", type=int, help="use every N-th photograph only")
    command.add_argument("--no-baselines", action="store_true", help="leave out JPEG, WebP and AVIF; a study's others")
    command.add_argument("-o", "--output", help="also write the JSON to this file; for a study, the output folder")
    _overwrite(command)
    command.set_defaults(model=None)


def _benchmark(sub) -> None:
    command = _command(sub, "benchmark", "measure speed side by side with alternatives, in one run")
    command.add_argument(
        "sections", nargs="*", help=f"any of {', '.join(SECTIONS)} (default: all; memory and growth take minutes)"
    )
    command.add_argument(
        "--photographs", type=int, default=64, help="photographs per epoch of head training (default: 64)"
    )
    command.add_argument("--repeats", type=int, default=3, help="repeats of which the fastest counts (default: 3)")
    command.add_argument("--compressai", default="", help="folder of CompressAI's weights (default: random weights)")
    command.add_argument("-o", "--output", help="also write the JSON to this file; other sections in it are kept")
    _overwrite(command)


def _zoo(sub) -> None:
    command = sub.add_parser(
        "zoo", help="list or show the models that ship", description="list or show the models that ship"
    )
    command.add_argument("action", choices=("list", "show"))
    command.add_argument("name", nargs="?", help="model to show")
    _traceback(command)
    command.add_argument("--json", action="store_true", help="print one JSON object to standard output")


def _demo(sub) -> None:
    command = _command(
        sub, "demo", "encode, analyze and decode a few photographs, and write a page that shows the results"
    )
    command.add_argument("inputs", nargs="*", help="photographs (default: four that come with scikit-image)")
    command.add_argument("-o", "--output", default="cdanalysis-demo", help="output folder (default: cdanalysis-demo)")
    command.add_argument("--quality", type=quality, default=0.5, help="in [0, 1], or SEMANTIC,DETAIL (default: 0.5)")
    _overwrite(command)


if __name__ == "__main__":
    sys.exit(main())
