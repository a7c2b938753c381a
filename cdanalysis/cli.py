"""The command line: a thin layer over the package. Heavy imports happen inside the commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import __version__
from .registry import HEADS
from .structures.latents import LAYERS, SEMANTIC, layer_count

SECTIONS = ("heads", "codec", "tasks", "folders", "parts", "start", "memory", "growth")
EACH = ",".join(name.upper() for name in LAYERS)
PLAIN = ("classification", "detection", "segmentation")
"""Tasks that `train` has recipes for."""


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
            status = getattr(commands, options.command)(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # who reads the output, as `head` does, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed at the very end
        return 1
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
    """The options; positional arguments may also follow options."""
    top = parser()
    options, more = top.parse_known_args(arguments)
    named = next((getattr(options, name) for name in ("overrides", "inputs", "sections") if name in options), None)
    if more and (named is None or any(word.startswith("-") for word in more)):
        top.error(f"unrecognized arguments: {' '.join(more)}")
    late = more[1:] if getattr(options, "recipe", "") in PLAIN and not options.overrides else more
    if late and "overrides" in options and not all("=" in word for word in late):
        top.error(f"not key=value: {' '.join(word for word in late if '=' not in word)}")
    if more and named is not None:
        named += more
    if options.command == "train":
        _check_train(top, options)
    return options


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="cdanalysis", description="Compressed-domain multi-task image analysis.")
    top.add_argument("--version", action="version", version=f"cdanalysis {__version__}")
    sub = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _encode(sub)
    _decode(sub)
    _analyze(sub)
    _inspect(sub)
    _strip(sub)
    _train(sub)
    _evaluate(sub)
    _benchmark(sub)
    _zoo(sub)
    _export(sub)
    _demo(sub)
    _index(sub)
    _search(sub)
    _app(sub)
    return top


def quality(text: str) -> float | tuple[float, ...]:
    """``0.5``, or ``0.3,0.3,0.7`` for the global, the spatial and the detail layer."""
    numbers = _numbers(text)
    if not all(0 <= number <= 1 for number in numbers):
        raise argparse.ArgumentTypeError(f"quality lies in [0, 1], one number or one for each layer; got {text!r}")
    return numbers[0] if len(numbers) == 1 else numbers


def budget(text: str) -> float | tuple[float, ...]:
    """``20000``, or ``100,1400,18500`` for the global, the spatial and the detail layer."""
    numbers = _numbers(text)
    if not all(number > 0 for number in numbers):
        raise argparse.ArgumentTypeError(f"a budget is a number above 0, or one for each layer; got {text!r}")
    return numbers[0] if len(numbers) == 1 else numbers


def fraction(text: str) -> float:
    """A number in [0, 1]."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}") from None
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"a number in [0, 1] is wanted, got {text!r}")
    return number


def _numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them, at most one for each layer."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}") from None
    if len(numbers) > len(LAYERS):
        raise argparse.ArgumentTypeError(f"there are {len(LAYERS)} layers ({', '.join(LAYERS)}), and not {text!r}")
    return numbers


def layers(text: str) -> tuple[str, ...]:
    """``global``, ``global,spatial``, or ``all``; a layer needs those before it."""
    names = LAYERS if text == "all" else tuple(text.split(","))
    try:
        layer_count(names)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, or all") from None
    return names


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is wanted; got {text!r}")
    return int(text)


def importance(text: str) -> str | list[tuple[float, ...]]:
    """Boxes ``X,Y,W,H;X,Y,W,H`` as numbers; anything else is the name of a model or a file."""
    try:
        boxes = [tuple(float(number) for number in box.split(",")) for box in text.split(";")]
    except ValueError:
        return text
    if not all(len(box) == 4 for box in boxes):
        raise argparse.ArgumentTypeError(f"a box is four numbers X,Y,W,H in pixels; got {text!r}")
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


def _files(command: argparse.ArgumentParser, pixels: bool = True) -> None:
    """Options of the commands that process many files; one of pixels for those that make or read pictures."""
    command.add_argument(
        "--workers", type=int, help="number of processes (default: one per core for many files, otherwise one)"
    )
    command.add_argument("--runner", choices=("local", "ray"), default="local", help="this machine, or a Ray cluster")
    command.add_argument(
        "--overwrite", action="store_true", help="redo all files, and overwrite any file that is not an input"
    )
    command.add_argument("--strict", action="store_true", help="stop at the first file that fails")
    if pixels:
        command.add_argument("--max-pixels", type=positive, help="refuse photographs with more pixels (default: 2^28)")


def _encode(sub) -> None:
    command = _command(sub, "encode", "encode photographs into .cda streams")
    command.add_argument("inputs", nargs="+", help="image files, or folders of them")
    command.add_argument(
        "-o", "--output", help="output .cda file for one input, otherwise output folder (default: next to each input)"
    )
    rate = command.add_mutually_exclusive_group()
    rate.add_argument("--quality", type=quality, help=f"in [0, 1], or {EACH} (default: 0.5)")
    rate.add_argument("--bpp", type=budget, help=f"maximum bits per pixel of a stream, or {EACH}")
    rate.add_argument("--max-bytes", type=budget, help=f"maximum size of a stream in bytes, or {EACH}")
    command.add_argument(
        "--importance",
        type=importance,
        help="region of interest: boxes X,Y,W,H;... in pixels, a mask image, 'saliency', or U2-Net-P's .onnx file",
    )
    _layers(command, LAYERS, "layers to write: global (labels, search), global,spatial (boxes and masks too), or all")
    command.add_argument(
        "--spatial-size",
        type=int,
        metavar="PIXELS",
        help="longer side that boxes and masks are seen at, a multiple of 32: small ones take fewer bytes",
    )
    command.add_argument(
        "--effort",
        type=int,
        default=0,
        metavar="STEPS",
        help="steps that fit the detail layer to each photograph: 32 save 4 to 9 %% of the bits, in 35 s a megapixel",
    )
    command.add_argument(
        "--realism",
        type=fraction,
        default=0.0,
        help="0 to 1, at which pictures will be decoded: effort then serves what machines see in them, too",
    )
    _precision(command)
    _files(command)


def _precision(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the networks of pixels: bfloat16 is faster where the processor has it, for some hundredths of a dB",
    )


def _layers(command: argparse.ArgumentParser, default: tuple[str, ...], help: str) -> None:
    named = "all" if default == LAYERS else ",".join(default)
    command.add_argument("--layers", type=layers, default=default, metavar="LAYERS", help=f"{help} (default: {named})")


def _decode(sub) -> None:
    command = _command(sub, "decode", "decode streams into PNG images")
    command.add_argument("inputs", nargs="+", help=".cda files, or folders of them")
    command.add_argument(
        "-o", "--output", help="output image for one input, otherwise output folder (default: next to each input)"
    )
    command.add_argument(
        "--preview",
        action="store_true",
        help="accept streams without a detail layer, and write a rough preview of those",
    )
    command.add_argument(
        "--realism",
        type=fraction,
        default=0.0,
        help="0 to 1: from the least squared error (default) to what looks most like a photograph, detail invented",
    )
    _precision(command)
    _files(command)


def _analyze(sub) -> None:
    command = _command(sub, "analyze", "classify, detect and segment from streams, without decoding them")
    command.add_argument("inputs", nargs="+", help=".cda files, or folders of them")
    command.add_argument(
        "--tasks",
        nargs="+",
        help="tasks to run (default: all of the model's); streams need only the layers that these read",
    )
    command.add_argument(
        "-o",
        "--output",
        help="write predictions (JSON) and segmentations (PNG of class indices) to this file or folder",
    )
    _files(command)


def _inspect(sub) -> None:
    command = _command(sub, "inspect", "show the headers of streams", model=False)
    command.add_argument("inputs", nargs="+", help=".cda files, or folders of them")
    command.add_argument(
        "--bits-map", help="also draw the bits of each layer per place: a PNG file, or a folder; needs the model"
    )
    command.add_argument("--model", help="model that wrote the streams, for --bits-map (default: photo)")
    _overwrite(command)


def _strip(sub) -> None:
    command = _command(sub, "strip", "cut layers off the end of streams; needs no model", model=False)
    command.add_argument("inputs", nargs="+", help=".cda files, or folders of them")
    command.add_argument("-o", "--output", required=True, help="a .cda file for one input, otherwise a folder")
    _layers(command, SEMANTIC, "layers to keep: global, or global,spatial")
    _files(command, pixels=False)


def _train(sub) -> None:
    help = "train a head for your own classes, or a model from a recipe"
    command = sub.add_parser("train", help=help, description=f"{help}: train TASK DATA, or train RECIPE")
    command.add_argument("recipe", metavar="TASK|RECIPE", help=f"one of {', '.join(PLAIN)}; or a recipe's YAML file")
    command.add_argument(
        "overrides",
        nargs="*",
        metavar="DATA|key=value",
        help="for a task first the data: class folders, a COCO file or its folder, images and labels "
        "(docs/layouts.md); then keys of the recipe to override; preset=NAME selects a preset",
    )
    own = command.add_argument_group("for a task")
    own.add_argument("--annotations", help="COCO JSON file of DATA, if it is not found by itself")
    own.add_argument("--val", help="data to validate on (default: DATA's own val, or every fifth photograph of DATA)")
    own.add_argument("--val-annotations", help="COCO JSON file of --val, if it is not found by itself")
    own.add_argument("--epochs", type=positive, help="epochs at most (default: the recipe's)")
    own.add_argument("--name", help="of the model (default: that of the data)")
    own.add_argument("--from", dest="start", help="zoo name or folder of the model to start from (default: photo)")
    command.add_argument("-o", "--output", help="output folder (default: runs/NAME)")
    command.add_argument("--resume", action="store_true", help="resume from the checkpoint in the output folder")
    command.add_argument("--threads", type=positive, help="number of CPU threads (default: torch's)")
    command.add_argument("--overwrite", action="store_true", help="discard an interrupted run, and start over")
    _traceback(command)


def _check_train(top: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """A task takes data, a recipe does not; ``data`` becomes the first of the words."""
    if options.recipe in PLAIN:
        if not options.overrides or (len(options.overrides) > 1 and "=" not in options.overrides[1]):
            top.error(f"train {options.recipe} takes one folder, archive or file of data, then key=value")
        options.data, options.overrides = options.overrides[0], options.overrides[1:]
        return
    given = [
        name for name in ("annotations", "val", "val_annotations", "epochs", "name", "start") if getattr(options, name)
    ]
    if given:
        option = {"start": "from"}.get(given[0], given[0]).replace("_", "-")
        top.error(f"--{option} is for train {', '.join(PLAIN)}: a recipe has keys, which key=value overrides")


def _evaluate(sub) -> None:
    command = _command(sub, "evaluate", "measure rate, reconstruction and accuracy on a folder of photographs")
    command.add_argument(
        "photographs", help="folder or tar archive of images (subfolders are classes), or a study's YAML file"
    )
    command.add_argument(
        "overrides", nargs="*", metavar="key=value", help="override keys of a study; preset=NAME selects a preset"
    )
    command.add_argument("--quality", type=quality, nargs="+", help="qualities to measure (default: 0.25 0.5 0.75)")
    tasks = ("reconstruction", *HEADS)
    command.add_argument(
        "--tasks",
        nargs="+",
        choices=tasks,
        help="tasks to measure (default: reconstruction, and classification if there are class folders)",
    )
    command.add_argument("--annotations", help="COCO JSON file, for detection")
    command.add_argument("--every", type=positive, help="use only every N-th photograph")
    command.add_argument(
        "--no-baselines", action="store_true", help="do not measure JPEG, WebP and AVIF, or the baselines of a study"
    )
    command.add_argument("-o", "--output", help="also write the results to this JSON file; for a study, output folder")
    _overwrite(command)
    command.set_defaults(model=None)


def _benchmark(sub) -> None:
    command = _command(sub, "benchmark", "measure speed, beside alternatives, in one run")
    command.add_argument(
        "sections", nargs="*", help=f"any of {', '.join(SECTIONS)} (default: all, which takes half an hour)"
    )
    command.add_argument(
        "--photographs", type=positive, default=64, help="photographs per epoch of head training (default: 64)"
    )
    command.add_argument(
        "--images", default="", help="folder of photographs for the codecs (default: one that scikit-image carries)"
    )
    command.add_argument("--repeats", type=positive, default=3, help="repeats; the fastest counts (default: 3)")
    command.add_argument("--compressai", default="", help="folder of CompressAI's weights (default: random weights)")
    command.add_argument("-o", "--output", help="also write the results to this JSON file; its other sections are kept")
    _overwrite(command)


def _zoo(sub) -> None:
    command = sub.add_parser(
        "zoo", help="list the models that ship, or show one", description="list the models that ship, or show one"
    )
    command.add_argument("action", choices=("list", "show"), help="the names of all, or the card of one")
    command.add_argument("name", nargs="?", help="model to show")
    _traceback(command)
    command.add_argument("--json", action="store_true", help="print one JSON object to standard output")


def _export(sub) -> None:
    command = _command(sub, "export", "export a model's networks to ONNX (the extra onnx)", model=False)
    command.add_argument("model", nargs="?", default="photo", help="zoo name or folder of a model (default: photo)")
    command.add_argument("-o", "--output", default="onnx", help="output folder (default: onnx)")
    command.add_argument(
        "--parts",
        nargs="+",
        help="encoder, decoder, head, or names such as encoder_global and head_detection (default: all)",
    )
    _overwrite(command)


def _demo(sub) -> None:
    command = _command(
        sub, "demo", "encode, analyze and decode a few photographs, and write a page that shows the results"
    )
    command.add_argument("inputs", nargs="*", help="photographs (default: four of scikit-image's)")
    command.add_argument("-o", "--output", default="cdanalysis-demo", help="output folder (default: cdanalysis-demo)")
    command.add_argument("--quality", type=quality, default=0.5, help=f"in [0, 1], or {EACH} (default: 0.5)")
    _overwrite(command)


def _index(sub) -> None:
    command = _command(sub, "index", "gather the vectors of streams in an archive that can be searched")
    command.add_argument("inputs", nargs="+", help=".cda files, or folders of them")
    command.add_argument("-o", "--output", required=True, help="folder of the archive, such as archive.index")
    command.add_argument(
        "--tasks",
        nargs="+",
        help="predictions to keep beside the vectors: classification (labels; the default) and detection (objects)",
    )
    command.add_argument(
        "--faiss", action="store_true", help="also make an index of FAISS's, for above a million streams"
    )
    _files(command)


def _search(sub) -> None:
    command = _command(sub, "search", "find streams of an archive by a photograph, a stream, a label or objects", False)
    command.usage = "cdanalysis search [QUERY] ARCHIVE [options]"
    command.add_argument(
        "inputs", nargs="+", metavar="[QUERY] ARCHIVE", help="a photograph or a stream to search by, and the archive"
    )
    command.add_argument("-k", type=int, default=10, help="how many to find (default: 10)")
    command.add_argument("--label", help="only streams of this class; a word of its name will do")
    command.add_argument(
        "--with", dest="objects", action="append", default=[], metavar="OBJECT",
        help="only streams with such an object; may be repeated",
    )  # fmt: skip
    command.add_argument(
        "--min-score", type=float, help="lowest score of label and objects (default: any label, and objects from 0.35)"
    )
    command.add_argument("--exact", action="store_true", help="compare all vectors, also where there is FAISS's index")
    command.add_argument(
        "--sheet", help="also decode what was found, onto this contact sheet: .html, .png, .webp or .jpg"
    )
    command.add_argument("--model", help="model that wrote the streams (default: the one that the archive names)")
    command.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    _overwrite(command)


def _app(sub) -> None:
    command = _command(sub, "app", "open a page in the browser to try photographs on; needs the extra app")
    command.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    command.add_argument("--port", type=int, help="port (default: the first free one from 7860 on)")
    command.add_argument("--max-pixels", type=positive, help="refuse photographs with more pixels (default: 2^22)")
    command.add_argument("--max-bytes", type=positive, help="refuse files with more bytes (default: 20 MiB)")


if __name__ == "__main__":
    sys.exit(main())
