"""Where a result comes from: command, commit, machine and versions."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = ("allukan", "torch", "numba", "numpy", "monai", "pytorch-lightning", "triton")


def environment(device: str | torch.device | None = None) -> dict[str, Any]:
    """Command, date, commit (None outside a checkout of allukan), device, threads and versions of what runs now.

    ``device`` is where the computing happens; without it the GPU, if there is one.

    >>> sorted(environment("cpu"))
    ['command', 'commit', 'date', 'device', 'python', 'threads', 'versions']
    """
    import torch

    cuda = torch.cuda.is_available() if device is None else torch.device(device).type == "cuda"
    return {
        "command": command(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "device": torch.cuda.get_device_name(device if cuda else None) if cuda else processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
    }


def command() -> str:
    """What was typed: ``python -m MODULE …`` for a module, otherwise the name of the program and its arguments."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    started = ["python", "-m", module.name.removesuffix(".__main__")] if module else [Path(sys.argv[0]).name]
    return shlex.join([*started, *sys.argv[1:]])


def commit(folder: Path = Path(__file__).parent) -> str | None:
    """The commit that ``folder`` is tracked by, with "-dirty" where tracked files differ from it; None where there is none."""
    head = _git(folder, "rev-parse", "HEAD")
    if not head or not _git(folder, "ls-files", "."):  # an installed package may lie in the repository of somebody else
        return None
    return head + ("-dirty" if _git(folder, "status", "--porcelain", "-uno") else "")


def processor() -> str:
    """Name and number of cores of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {len(names) or os.cpu_count()} cores"


def installed(name: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, encoding="utf-8", errors="replace", check=False
        ).stdout.strip()
    except OSError:  # git is not installed
        return ""
