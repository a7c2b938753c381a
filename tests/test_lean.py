"""Torch's compiler, which timm and torchvision load when they are imported, is loaded when something is compiled."""

from __future__ import annotations

import subprocess
import sys

import pytest


def said(code: str) -> str:
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize("first", ["cdanalysis.model", "cdanalysis.heads.nanodet", "cdanalysis.teachers.imagenet"])
def test_no_verb_loads_the_compiler(first, small_folder):
    """Whichever module is imported first; and all that is compiled, compiles."""
    code = f"""
import importlib, sys
importlib.import_module("{first}")
import numpy as np, torch, cdanalysis as cda
model = cda.load({str(small_folder)!r})
stream = model.encode(np.zeros((64, 64, 3), np.uint8))
model.analyze(stream), model.decode(stream)
print("torch._dynamo" in sys.modules)
assert torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(1)) == 1
print("torch._dynamo" in sys.modules)
"""
    assert said(code).split() == ["False", "True"]


def test_what_asks_the_compiler_is_answered():
    """torchvision asks where it aligns regions; timm has functions that are not to be compiled; others import it."""
    code = """
import cdanalysis, sys, torch, torchvision
from timm.models.naflexvit import NaFlexRopeIterator
assert "torch._dynamo" not in sys.modules
x, box = torch.rand(1, 1, 8, 8, requires_grad=True), torch.tensor([[0.0, 1.0, 1.0, 6.0, 6.0]])
torchvision.ops.roi_align(x, box, 2).sum().backward()
torch.use_deterministic_algorithms(True)
torchvision.ops.roi_align(x, box, 2)
function = next(f for f in vars(NaFlexRopeIterator).values() if hasattr(f, "__wrapped__"))
assert torch.compiler.disable.__module__ == "torch.compiler"
assert torchvision.__spec__.loader.get_source("torchvision") and torchvision.__loader__ is torchvision.__spec__.loader
import torch._dynamo.utils
print(torch._dynamo.utils.is_compile_supported("cpu") in (True, False), torch._dynamo.__spec__ is not None)
"""
    assert said(code) == "True True"


def test_a_compiler_that_is_there_stays():
    code = """
import torch._dynamo, sys
before = sys.modules["torch._dynamo"]
import cdanalysis, torchvision
print(sys.modules["torch._dynamo"] is before)
"""
    assert said(code) == "True"


def test_whoever_wants_more_of_it_meanwhile_gets_the_compiler_itself():
    code = """
import sys
from cdanalysis.lean import compiler_later
with compiler_later():
    import torch._dynamo
    assert "convert_frame" not in vars(sys.modules["torch._dynamo"])
    from torch._dynamo import optimize
print(optimize.__module__.startswith("torch._dynamo"), hasattr(sys.modules["torch._dynamo"], "optimize"))
"""
    assert said(code) == "True True"
