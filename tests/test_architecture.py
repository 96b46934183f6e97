"""The layout of DESIGN section 3, enforced: who may import whom, how large things may be, what is not written here."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "allukan"
FILES = sorted(SOURCE.rglob("*.py"))
PROGRAMS = sorted((ROOT / "benchmarks").rglob("*.py"))
FREE = {"errors", "files", "options", "provenance", "yaml_files", "_version"}
LOW = {"models", "data", "scores", "costs", "report", "atlas", "nn", "ops"}
BELOW = {
    "options": set(),
    "ops": set(),
    "nn": {"ops"},
    "models": {"nn", "ops"},
    "data": {"nn", "ops"},
    "costs": {"nn", "ops"},
    "scores": set(),
    "atlas": {"nn", "ops", "report"},
    "report": set(),  # below all that has something to show: what it shows are arrays and text
    "training": LOW,
    "inference": LOW,
    "integrations": {"inference", *LOW},
    "app": {"inference", *LOW},
    "doctor": {"nn", "ops"},
    "study": {"training", "inference", *LOW},
    "cli": {"app", "doctor", "study", "training", "inference", "integrations", *LOW},
}
FORMATS = {"onnx", "hub", "bundle", "torch_export"}  # of integrations; none knows of the others
HEAVY = {"torch", "numpy", "scipy", "sklearn", "matplotlib", "monai", "pytorch_lightning", "PIL", "numba", "yaml", "jinja2"} | {
    "nibabel",
    "pydicom",
    "SimpleITK",
    "gradio",
}
IMAGE_IO = {"PIL", "tifffile", "imagecodecs", "nibabel", "pydicom", "SimpleITK", "highdicom", "imageio", "cv2"}
OPENERS = {"open", "read_text", "write_text", "TemporaryFile", "NamedTemporaryFile", "TextIOWrapper", "FileHandler"}
ONLY_IN = {"csv": ("files.py", "tables.py"), "yaml": ("yaml_files.py",), "gradio": ("page.py",)}
RUNNERS = {"run", "Popen", "check_output"}
OTHER_OPEN = {"Image", "os", "webbrowser", "tarfile", "zipfile", "gzip"}  # whose open() is of no text
BANNED = ("TODO", "FIXME", "NotImplementedError", "weights_only=False", "pickle.load", "import *")


def imports(tree, *, top_only=False):
    """Absolute names of everything imported."""
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def problems(path: Path, text: str) -> list[str]:
    """Everything in one file that breaks a rule; ``path`` is relative to the package, of a benchmark to the checkout."""
    tree, package = ast.parse(text), path.parts[0] if len(path.parts) > 1 else ""
    found = [*_layout_problems(tree, path, package), *_import_problems(tree, path, package), *_size_problems(tree, path, text)]
    found += [f"{word!r} is not written here" for word in BANNED if word in text]
    found += ["load_state_dict(strict=False)"] * bool(re.search(r"load_state_dict\([^)]*strict=False", text))
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"line {node.lineno}: bare except")
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print" and package not in ("cli", "benchmarks"):
            found.append(f"line {node.lineno}: print outside cli")
    if package == "integrations":
        known = {name.split(".")[2] for name in imports(tree) if name.startswith("allukan.integrations.")}
        found += [f"integrations import the format {name}" for name in sorted(known & FORMATS)]
    return [*found, *_text_problems(tree)]


def _text_problems(tree):
    """Text without a named encoding is written in that of the machine, and read on another one in another."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        owner = getattr(getattr(node.func, "value", None), "id", "")
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        position = 1 if isinstance(node.func, ast.Name) and name == "open" else 0
        mode = given.get("mode", next(iter(node.args[position : position + 1]), None))
        binary = "b" in str(getattr(mode, "value", "b" if name.endswith("TemporaryFile") else ""))
        ours = isinstance(node.func, ast.Name) and name in ("read_text", "write_text")  # of allukan.files
        opens = name in OPENERS and owner not in OTHER_OPEN and not binary and not ours
        runs = name in RUNNERS and {"text", "universal_newlines"} & given.keys()
        if (opens or runs) and "encoding" not in given:
            yield f"line {node.lineno}: {name} without encoding"


def _layout_problems(tree, path, package):
    if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)):
        yield "a relative import, which hides what is imported"
    if package != "benchmarks" and any(name.split(".")[0] == "benchmarks" for name in imports(tree)):
        yield "benchmarks stay outside the package"
    if package not in {"benchmarks", *BELOW} and (package or path.stem not in FREE | {"__init__", "__main__"}):
        yield f"{package or path.name} has no place in the layout: add it to BELOW or FREE"


def _import_problems(tree, path, package):
    for name in imports(tree):
        root, *rest = name.split(".")
        if root == "allukan" and package in BELOW:
            other = rest[0]
            if other != package and other not in FREE | BELOW[package] and other in BELOW:
                yield f"{package} imports {other}"
        if root == "triton" and package != "ops":
            yield "triton outside ops"
        if root in IMAGE_IO and package != "data":
            yield f"{root} outside data"
        if path.name not in ONLY_IN.get(root, (path.name,)):
            yield f"{root} outside {' and '.join(ONLY_IN[root])}"
        if name.startswith("rich.markup"):
            yield "rich.markup: text on the console is no markup"
    if package == "cli":
        yield from (f"cli imports {n} at the top" for n in imports(tree, top_only=True) if n.split(".")[0] in HEAVY)
        lazy = {f"allukan.{name}" for name in BELOW["cli"]}
        yield from (f"cli imports {n} at the top" for n in imports(tree, top_only=True) if any(n.startswith(x) for x in lazy))
    if package != "cli" and path.name != "dispatch.py" and ("os.environ" in ast.unparse(tree) or "getenv" in ast.unparse(tree)):
        yield "os.environ outside cli and dispatch"


def _size_problems(tree, path, text):
    if len(text.splitlines()) > 400:
        yield "more than 400 lines"
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    for node in [*tree.body, *(member for found in classes for member in found.body)]:
        named = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        inherits = named and any(isinstance(by, ast.Name) and by.id == "override" for by in node.decorator_list)
        if named and not inherits and ast.get_docstring(node) is None:
            yield f"{node.name} has no docstring"
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        limit = 120 if "kernel" in path.name or "triton" in path.name else 60
        if node.end_lineno - node.lineno + 1 > limit:
            yield f"{node.name} has more than {limit} lines"
        if node.name == "__init__" and len(node.args.args) + len(node.args.kwonlyargs) - 1 > 12:
            yield f"line {node.lineno}: a constructor with more than 12 arguments"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_file_keeps_the_rules(path):
    assert problems(path.relative_to(SOURCE), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.name)
def test_benchmark_keeps_the_rules(path):
    assert problems(path.relative_to(ROOT), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "text", "word"),
    [
        ("nn/x.py", "from allukan.models import AllUKAN", "nn imports models"),
        ("data/x.py", "import allukan.scores.metrics", "data imports scores"),
        ("integrations/hub.py", "from allukan.integrations.bundle import metadata", "import the format bundle"),
        ("report/x.py", "from allukan.scores import METRICS", "report imports scores"),
        ("report/x.py", "from allukan.inference import Predictor", "report imports inference"),
        ("training/x.py", "from allukan import inference\nimport triton", "triton"),
        ("inference/x.py", "from allukan.training import train", "inference imports training"),
        ("doctor/x.py", "from allukan.training import train", "doctor imports training"),
        ("cli/x.py", "from allukan.study import compare", "cli imports allukan.study"),
        ("training/x.py", "from benchmarks.timing import interleaved", "benchmarks stay outside"),
        ("cli/x.py", "from allukan.doctor import examine", "cli imports allukan.doctor"),
        ("benchmarks/x.py", "import triton", "triton"),
        ("benchmarks/x.py", "def f():\n    '''d'''\n" + "    x = 1\n" * 60, "60 lines"),
        ("models/x.py", "from PIL import Image", "PIL outside data"),
        ("nn/x.py", "from ..models import AllUKAN", "relative import"),
        ("data/x.py", "if True:\n    from . import y", "relative import"),
        ("extras/x.py", "import json", "extras has no place"),
        ("x.py", "import json", "x.py has no place"),
        ("cli/x.py", "import torch", "cli imports torch"),
        ("models/x.py", "import os\nx = os.environ", "os.environ"),
        ("models/x.py", "\n" * 401, "400 lines"),
        ("models/x.py", "def f():\n    '''d'''\n" + "    x = 1\n" * 60, "60 lines"),
        ("models/x.py", "def f():\n    return 1", "no docstring"),
        ("models/x.py", "try:\n    x = 1\nexcept:\n    x = 2", "bare except"),
        ("models/x.py", "print(1)", "print"),
        ("data/x.py", "open('x')", "open without encoding"),
        ("data/x.py", "open('x', 'a')", "open without encoding"),
        ("data/x.py", "path.open(newline='')", "open without encoding"),
        ("data/x.py", "path.read_text()", "read_text without encoding"),
        ("data/x.py", "path.write_text(text)", "write_text without encoding"),
        ("data/x.py", "tempfile.NamedTemporaryFile('w')", "NamedTemporaryFile without encoding"),
        ("data/x.py", "logging.FileHandler(path)", "FileHandler without encoding"),
        ("data/x.py", "subprocess.run(command, text=True)", "run without encoding"),
        ("data/x.py", "from csv import reader", "csv outside"),
        ("data/x.py", "import yaml", "yaml outside"),
        ("inference/x.py", "from allukan.app import segment", "inference imports app"),
        ("app/session.py", "import gradio", "gradio outside page.py"),
        ("options/x.py", "from allukan.nn import Spline", "options imports nn"),
        ("cli/x.py", "from rich.markup import escape", "rich.markup"),
        ("models/x.py", "x = 1  # TODO", "TODO"),
    ],
)
def test_the_rules_catch_what_breaks_them(path, text, word):
    assert any(word in problem for problem in problems(Path(path), text))


@pytest.mark.parametrize(
    "text",
    ["open('x', 'rb')", "path.open('wb')", "Image.open(p)", "open('x', encoding='utf-8')", "TemporaryFile()", "read_text(path)"],
)
def test_the_rule_on_encodings_lets_pass_what_is_no_text(text):
    assert problems(Path("data/x.py"), text) == []


def test_the_package_itself_imports_nothing_heavy():
    code = "import sys, allukan, allukan.errors, allukan.files, allukan.provenance; "
    code += f"heavy = {HEAVY!r} & set(sys.modules); assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def hidden(package: str, text: str, modules: set[str]) -> set[str]:
    """Names that the ``__init__`` of a package takes out of its modules although one of these has the same name."""
    taken = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) and node.module != package]
    names = {alias.asname or alias.name for node in taken for alias in node.names}
    return {f"{package}.{name}" for name in names & modules}


def test_no_function_hides_the_module_of_its_name():
    """``from p.f import f`` in ``p/__init__.py`` takes the module p.f from everybody: ``import p.f as m`` is a function."""
    found = set()
    for path in (path for path in FILES if path.name == "__init__.py"):
        package = ".".join(("allukan", *path.relative_to(SOURCE).parts[:-1]))
        modules = {p.stem for p in path.parent.glob("*.py")} | {p.parent.name for p in path.parent.glob("*/__init__.py")}
        found |= hidden(package, path.read_text(encoding="utf-8"), modules)
    assert not found


def test_the_rule_on_hidden_modules_catches_them_and_lets_modules_pass():
    assert hidden("allukan.x", "from allukan.x.f import f, g", {"f"}) == {"allukan.x.f"}
    assert hidden("allukan.x", "from allukan.x.g import h as f", {"f", "g"}) == {"allukan.x.f"}
    assert hidden("allukan.x", "from allukan.x import f\nfrom allukan.x.f import g", {"f"}) == set()


def test_no_test_of_ours_cannot_fail():
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text()
        assert "raise_exception" + "=False" not in text, path


def test_typed_and_versioned():
    assert (SOURCE / "py.typed").is_file()
    import allukan

    assert set(allukan.__all__) - {"__version__"} == set(allukan._HOMES)
    assert all(getattr(allukan, name) for name in allukan.__all__)
