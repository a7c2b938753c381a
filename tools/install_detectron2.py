"""Install the pure-Python part of detectron2 0.6 where its C++ part cannot be built.

    python tools/install_detectron2.py

The official way is ``pip install 'git+https://github.com/facebookresearch/detectron2'``. This script is for machines
without a compiler, or without that repository: it takes the sources at tag v0.6 from there where it is reachable, else
from the source archive ``pb1-detectron2==0.6`` (whose Python files are those of the tag, and which has no C++ sources),
changes what keeps them from running today, says what it changed, and installs the result with pip. Rotated boxes and
deformable convolutions need the C++ part and do not work; everything that this library uses does, and so do the stock
training scripts, whose ``COCOEvaluator`` then measures with pycocotools. What detectron2 imports comes with
``pip install 'cdanalysis[detectron2]'``.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

REPOSITORY = "https://github.com/facebookresearch/detectron2"
ARCHIVE = "pb1-detectron2==0.6"
ALIASES = re.compile(r"\bnp\.(bool|int|float|object|str)\b")
NEW_FILES = {
    "_C.py": (
        "a module that says which functions need it, instead of the compiled one",
        '''"""Stands in for detectron2's compiled part, which is not installed."""


def has_cuda():
    return False


def get_compiler_version():
    return "none: the C++ part is not installed"


get_cuda_version = get_compiler_version


def __getattr__(name):
    raise AttributeError(
        f"detectron2's {name} is compiled code, which this installation lacks: "
        "pip install 'git+https://github.com/facebookresearch/detectron2' where a C++ compiler is"
    )
''',
    ),
    "evaluation/fast_eval_api.py": (
        "COCO's own evaluation instead of the compiled copy of it",
        '''"""COCO's own evaluation: the faster copy of it is compiled code, which is not installed."""

from pycocotools.cocoeval import COCOeval as COCOeval_opt

__all__ = ["COCOeval_opt"]
''',
    ),
}
"""Files of the package that are written anew: what is said of each, and its text."""
REPLACED = {
    "Image.LINEAR": ("Image.BILINEAR", "of Pillow's removed name for BILINEAR"),
    "import pkg_resources\n": ("", "of the removed package pkg_resources"),
    'pkg_resources.resource_filename(\n        "detectron2.model_zoo", ': (
        "os.path.join(\n        os.path.dirname(__file__), ",
        "of its function for the path of a file",
    ),
}
"""Words that no longer work: what stands there instead, and what is said of it."""


def pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *words], check=True)


def official(folder: Path) -> Path | None:
    """The official sources at the tag, if the repository can be reached."""
    command = ["git", "clone", "--quiet", "--depth", "1", "--branch", "v0.6", REPOSITORY, str(folder / "official")]
    try:
        subprocess.run(command, check=True, timeout=120, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return folder / "official"


def archived(folder: Path) -> Path:
    """The sources of the archive."""
    pip("install", "setuptools", "wheel")  # its setup.py is older than isolated builds
    pip("download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "-d", str(folder), ARCHIVE)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as members:
        members.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def changed(root: Path) -> list[str]:
    """Change the sources in place; gives a line for each change."""
    lines = []
    setup = root / "setup.py"
    text = setup.read_text().replace("ext_modules=get_extensions()", "ext_modules=[]")
    setup.write_text(text)
    lines.append("setup.py: no C++ extension is built")
    for name, (what, text) in NEW_FILES.items():
        (root / "detectron2" / name).write_text(text)
        lines.append(f"detectron2/{name}: {what}")
    for path in sorted((root / "detectron2").rglob("*.py")):
        text = path.read_text()
        new, aliases = ALIASES.subn(lambda match: match[1], text)
        what = [f"{aliases} of NumPy's removed names for built-in types"] * bool(aliases)
        for old, (word, name) in REPLACED.items():
            what += [f"{new.count(old)} {name}"] * (old in new)
            new = new.replace(old, word)
        if new != text:
            path.write_text(new)
            lines.append(f"{path.relative_to(root)}: {' and '.join(what)} replaced")
    return lines


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = official(folder)
        print(f"sources: {REPOSITORY} at v0.6" if root else f"sources: {ARCHIVE} ({REPOSITORY} cannot be reached)")
        root = root or archived(folder)
        for line in changed(root):
            print(f"  {line}")
        pip("install", "setuptools", "wheel")
        pip("install", "--no-deps", "--no-build-isolation", str(root))
    check = "import detectron2.modeling; print('detectron2', detectron2.__version__, 'works')"
    if subprocess.run([sys.executable, "-W", "ignore", "-c", check]).returncode:
        sys.exit(
            "detectron2 is installed but cannot be imported; pip install 'cdanalysis[detectron2]' brings what it needs"
        )


if __name__ == "__main__":
    main()
