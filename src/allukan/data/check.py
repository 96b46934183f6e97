"""What a dataset holds, and what is wrong with it: everything at once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from allukan.data.dataset import Case, Dataset
from allukan.data.images import read_image, read_masks
from allukan.data.layouts import open_dataset
from allukan.data.near_duplicates import near_duplicates
from allukan.errors import UserError


@dataclass(frozen=True)
class Finding:
    """One observation: ``fatal`` ones keep a training from starting."""

    what: str
    where: str
    fatal: bool = True


@dataclass(frozen=True)
class Check:
    """Result of ``check_dataset``: ``facts`` by name, ``findings``, and whether training can start."""

    facts: dict[str, str]
    findings: tuple[Finding, ...]

    @property
    def trainable(self) -> bool:
        """True without a fatal finding."""
        return not any(finding.fatal for finding in self.findings)


@dataclass(frozen=True)
class _Case:
    size: str = ""
    mode: str = ""
    foreground: tuple[float, ...] = ()
    findings: tuple[Finding, ...] = field(default=())


def check_dataset(root: str | Path) -> Check:
    """Read every file of a dataset and report all that is found, not just the first problem.

    Raises ``UserError`` only where there is no dataset to look at: folder missing, empty or of unknown layout.
    """
    dataset = open_dataset(root, strict=False)
    findings = _unpaired(root)
    with ThreadPoolExecutor() as pool:
        cases = list(pool.map(lambda case: _look(case, dataset), dataset.cases))
    findings += [finding for case in cases for finding in case.findings]
    if not any(f.fatal for f in findings):
        for a, b, correlation in near_duplicates(dataset):
            kind = "identical images" if correlation > 1 - 1e-9 else f"near-duplicates (correlation {correlation:.3f})"
            findings.append(Finding(f"{kind}: kept together by the clean protocol", f"{a} = {b}", fatal=False))
    if len(dataset.cases) < 3:
        findings.append(Finding(f"{len(dataset.cases)} usable images: train, validation and test need at least 3", str(root)))
    return Check(_facts(dataset, cases), tuple(findings))


def _unpaired(root: str | Path) -> list[Finding]:
    try:
        open_dataset(root)
    except UserError as error:
        return [Finding(str(error), str(root))]
    return []


def _look(case: Case, dataset: Dataset) -> _Case:
    findings, size, mode, foreground = [], "", "", ()
    try:
        image = read_image(case.images)
        size, mode = _text(image.shape[:2]), {1: "grey", 3: "RGB"}.get(image.shape[2], f"{image.shape[2]} channels")
    except UserError as error:
        findings.append(Finding(str(error), case.id))
    try:
        masks = read_masks(case, dataset)
        foreground = tuple(masks.mean((1, 2)).tolist())
        if size and _text(masks.shape[1:]) != size:
            findings.append(Finding(f"mask is {_text(masks.shape[1:])} pixels, image {size}", case.id))
    except UserError as error:
        findings.append(Finding(str(error), case.id))
    return _Case(size, mode, foreground, tuple(findings))


def _facts(dataset: Dataset, cases: list[_Case]) -> dict[str, str]:
    shares = list(zip(*(case.foreground for case in cases if case.foreground), strict=True))
    facts = {
        "layout": dataset.layout,
        "target": dataset.target,
        "images": str(len(dataset.cases)),
        "sizes (height×width)": _counted(case.size for case in cases),
        "modes": _counted(case.mode for case in cases),
    }
    for name, values in zip(dataset.classes, shares, strict=False):
        empty = sum(value == 0 for value in values)
        mean, low, high = 100 * sum(values) / len(values), 100 * min(values), 100 * max(values)
        facts[f"class {name}"] = f"foreground {mean:.1f} % ({low:.1f} … {high:.1f} %), {empty} empty masks"
    return facts


def _counted(values: object) -> str:
    counts = Counter(value for value in values if value).most_common()  # type: ignore[attr-defined]
    shown = ", ".join(f"{value} ({n})" for value, n in counts[:5])
    return shown + (f", and {len(counts) - 5} others" if len(counts) > 5 else "")


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
