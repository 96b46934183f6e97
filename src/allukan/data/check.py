"""What a dataset holds, and what is wrong with it: everything at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from allukan.data.dataset import Case, Dataset
from allukan.data.decode import header
from allukan.data.groups import load_groups
from allukan.data.images import read_image
from allukan.data.layouts import scan_dataset
from allukan.data.masks import read_masks
from allukan.data.names import notes
from allukan.data.near_duplicates import near_duplicates
from allukan.data.splits import make_splits
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
class _Seen:
    """What one case showed; empty where it could not be read."""

    size: str = ""
    mode: str = ""
    channels: int = 0
    foreground: tuple[float, ...] = ()
    findings: tuple[Finding, ...] = ()


def check_dataset(root: str | Path) -> Check:
    """Read every file of a dataset and report all that is found, not just the first problem.

    Raises ``UserError`` only when ``root`` does not exist.
    """
    try:
        dataset, problems = scan_dataset(root)
    except UserError as error:
        if not Path(root).exists():
            raise
        return Check({}, (Finding(str(error), str(root)),))
    with ThreadPoolExecutor() as pool:
        seen = list(pool.map(lambda case: _look(case, dataset), dataset.cases))
    findings = [Finding(problem.what, problem.where) for problem in problems]
    findings += [Finding(what, where, fatal=False) for where, what in notes(dataset)]
    findings += [finding for case in seen for finding in case.findings]
    findings += [*_uneven(seen, root), *_empty(dataset, seen), *_duplicates(dataset, seen)]
    if not any(finding.fatal for finding in findings):
        findings += _splits(dataset)
    return Check(_facts(dataset, seen), tuple(dict.fromkeys(findings)))


def _look(case: Case, dataset: Dataset) -> _Seen:
    findings, size, mode, channels, foreground = [], "", "", 0, ()
    try:
        image = read_image(case.images)
        size, channels = _text(image.shape[:2]), image.shape[2]
        mode = " + ".join(header(path)[1] for path in case.images)
    except UserError as error:
        findings.append(Finding(str(error), case.id))
    try:
        masks = read_masks(case, dataset)
        foreground = tuple(masks.mean((1, 2)).tolist())
        if size and _text(masks.shape[1:]) != size:
            findings.append(Finding(f"mask is {_text(masks.shape[1:])} pixels, image {size}", case.id))
    except UserError as error:
        findings.append(Finding(str(error), case.id))
    return _Seen(size, mode, channels, foreground, tuple(findings))


def _uneven(seen: list[_Seen], root: str | Path) -> list[Finding]:
    """Only grey and RGB can be brought to the same number of channels."""
    numbers = sorted({case.channels for case in seen if case.channels})
    if len(numbers) < 2 or numbers == [1, 3]:
        return []
    return [Finding(f"images have {' and '.join(map(str, numbers))} channels: all must have as many", str(root))]


def _empty(dataset: Dataset, seen: list[_Seen]) -> list[Finding]:
    shares = [case.foreground for case in seen if len(case.foreground) == len(dataset.classes)]
    never = [name for k, name in enumerate(dataset.classes) if shares and not any(share[k] for share in shares)]
    fatal = len(never) == len(dataset.classes)
    return [Finding("no mask has a single pixel of this class", f"class {name}", fatal) for name in never]


def _duplicates(dataset: Dataset, seen: list[_Seen]) -> list[Finding]:
    readable = tuple(case for case, found in zip(dataset.cases, seen, strict=True) if found.size)
    findings = []
    for a, b, correlation in near_duplicates(replace(dataset, cases=readable)) if len(readable) > 1 else ():
        kind = "identical images" if correlation > 1 - 1e-9 else f"near-duplicates (correlation {correlation:.3f})"
        findings.append(Finding(f"{kind}: kept together by the clean protocol", f"{a} = {b}", fatal=False))
    return findings


def _splits(dataset: Dataset) -> list[Finding]:
    try:
        make_splits(dataset, "clean", 0, load_groups(dataset, None))
    except UserError as error:
        return [Finding(str(error), str(dataset.root))]
    return []


def _facts(dataset: Dataset, cases: list[_Seen]) -> dict[str, str]:
    shares = list(zip(*(case.foreground for case in cases if case.foreground), strict=True))
    facts = {
        "layout": dataset.layout,
        "target": dataset.target,
        "images with masks": str(len(dataset.cases)),
        "classes": ", ".join(dataset.classes),
        "sizes (height×width)": _counted(case.size for case in cases),
        "modes": _counted(case.mode for case in cases),
    }
    for name, values in zip(dataset.classes, shares, strict=False):
        empty = sum(value == 0 for value in values)
        mean, low, high = 100 * sum(values) / len(values), 100 * min(values), 100 * max(values)
        facts[f"class {name}"] = f"foreground {mean:.1f} % ({low:.1f} … {high:.1f} %), {empty} empty masks"
    return facts


def _counted(values: Iterable[str]) -> str:
    counts = Counter(value for value in values if value).most_common()
    shown = ", ".join(f"{value} ({n})" for value, n in counts[:5])
    return shown + (f", and {len(counts) - 5} others" if len(counts) > 5 else "")


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
