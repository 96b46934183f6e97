"""What a dataset holds, and what is wrong with it: everything at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha1
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from allukan.data.channels import file_channels
from allukan.data.dataset import Case, Dataset
from allukan.data.decode import header
from allukan.data.duplicates import near_duplicates
from allukan.data.groups import load_groups
from allukan.data.images import deep_note, read_values
from allukan.data.layouts import AS_IS, scan_dataset
from allukan.data.masks import foreground_values, read_masks
from allukan.data.names import notes
from allukan.data.planning import SplitPlan, plan_splits
from allukan.data.splits import PARTS
from allukan.data.volume_cases import read_volume
from allukan.errors import UserError
from allukan.options import LabelRules

_MOSTLY = 0.6  # share of the pixels from which a foreground may be the background, or what the camera sees


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
    channels: tuple[int, ...] = ()
    foreground: tuple[float, ...] = ()
    values: frozenset[int] = frozenset()
    mask: bytes = b""
    findings: tuple[Finding, ...] = ()
    spacing: str = ""
    orientation: str = ""


def check_dataset(
    root: str | Path,
    rules: LabelRules = AS_IS,
    *,
    groups: str | None = None,
    splits: str | None = None,
    fold: int | None = None,
) -> Check:
    """Read every file of a dataset and report all that is found, not just the first problem.

    ``rules`` as of ``open_dataset``, ``groups`` as of ``load_groups``, ``splits`` and ``fold`` as of ``plan_splits``. Raises
    ``UserError`` only when ``root`` does not exist.
    """
    try:
        dataset, problems = scan_dataset(root, rules)
    except UserError as error:
        if not Path(root).exists():
            raise
        return Check({}, (Finding(str(error), str(root)),))
    with ThreadPoolExecutor() as pool:
        seen = list(pool.map(lambda case: _look(case, dataset), dataset.cases))
    findings = [Finding(problem.what, problem.where, problem.fatal) for problem in problems]
    findings += [Finding(what, where, fatal=False) for where, what in notes(dataset)]
    findings += [finding for case in seen for finding in case.findings]
    readable = tuple(case for case, found in zip(dataset.cases, seen, strict=True) if found.size)
    pairs = near_duplicates(replace(dataset, cases=readable))
    if dataset.spatial_dims == 2 and (note := deep_note([case.images for case in readable])):
        findings.append(Finding(note.rstrip("."), str(root), fatal=False))
    findings += [*_uneven(seen, root), *_empty(dataset, seen), *_doubtful(dataset, seen)]
    facts, plan = _facts(dataset, seen), None
    if not any(finding.fatal for finding in findings):
        try:
            near = [(a, b) for a, b, _ in pairs]
            plan = plan_splits(dataset, "clean", 0, load_groups(dataset, groups), splits, fold, near)
            facts["split"] = plan.summary
        except UserError as error:
            findings.append(Finding(str(error), str(root)))
    findings += [*_split_notes(dataset, plan), *_duplicates(pairs, plan)]
    return Check(facts, tuple(dict.fromkeys(findings)))


def _look(case: Case, dataset: Dataset) -> _Seen:
    return _look_at_volume(case, dataset) if dataset.spatial_dims == 3 else _look_at_picture(case, dataset)


def _look_at_volume(case: Case, dataset: Dataset) -> _Seen:
    channels = file_channels(dataset)
    try:
        image = read_volume(case.images, channels)
    except UserError as error:
        return _Seen(findings=(Finding(str(error), case.id),))
    geometry = image.geometry
    spacing = "×".join(f"{size:.3g}" for size in geometry.spacing_mm)
    seen = _Seen(_text(geometry.shape), str(image.array.dtype), channels, spacing=spacing, orientation=geometry.orientation)
    try:
        masks = read_masks(case, dataset, image)
    except UserError as error:
        return replace(seen, findings=(Finding(str(error), case.id),))
    values = frozenset(foreground_values(case, image)) if dataset.layout == "folders" else frozenset[int]()
    return replace(seen, foreground=_shares(masks), values=values, mask=_digest(masks))


def _shares(masks: NDArray[np.uint8]) -> tuple[float, ...]:
    return tuple((masks == 1).reshape(len(masks), -1).mean(1).tolist())


def _look_at_picture(case: Case, dataset: Dataset) -> _Seen:
    findings, size, mode = [], "", ""
    foreground: tuple[float, ...] = ()
    channels: tuple[int, ...] = ()
    values: frozenset[int] = frozenset()
    digest = b""
    try:
        image = read_values(case.images)
        size, headers = _text(image.shape[:2]), [header(path) for path in case.images]
        channels, mode = tuple(n for n, _ in headers), " + ".join(kind for _, kind in headers)
    except UserError as error:
        findings.append(Finding(str(error), case.id))
    try:
        masks = read_masks(case, dataset)
        foreground, digest = _shares(masks), _digest(masks)
        values = frozenset(foreground_values(case)) if dataset.layout == "folders" else values
        if size and _text(masks.shape[1:]) != size:
            findings.append(Finding(f"mask is {_text(masks.shape[1:])} pixels, image {size}", case.id))
    except UserError as error:
        findings.append(Finding(str(error), case.id))
    return _Seen(size, mode, channels, foreground, values, digest, tuple(findings))


def _digest(masks: NDArray[np.uint8]) -> bytes:
    """Of masks with something in them."""
    return sha1(masks.tobytes(), usedforsecurity=False).digest() if masks.any() else b""


def _uneven(seen: list[_Seen], root: str | Path) -> list[Finding]:
    """Only grey and RGB can be brought to the same number of channels, and only in images of one file."""
    numbers = Counter(case.channels for case in seen if case.channels)
    if len(numbers) < 2:
        return []
    if set(numbers) == {(1,), (3,)}:
        grey = f"{numbers[1,]} images are grey, {numbers[3,]} in colour: grey is repeated to RGB, also in prediction"
        return [Finding(grey, str(root), fatal=False)]
    shown = " and ".join(" + ".join(map(str, counts)) for counts in sorted(numbers))
    return [Finding(f"images have {shown} channels: all must have as many", str(root))]


def _empty(dataset: Dataset, seen: list[_Seen]) -> list[Finding]:
    shares = [case.foreground for case in seen if len(case.foreground) == len(dataset.classes)]
    never = [name for k, name in enumerate(dataset.classes) if shares and not any(share[k] for share in shares)]
    fatal = len(never) == len(dataset.classes)
    return [Finding("no mask has a single pixel of this class", f"class {name}", fatal) for name in never]


def _doubtful(dataset: Dataset, seen: list[_Seen]) -> Iterator[Finding]:
    """What is allowed and often a mistake: class numbers in binary masks, and masks that are inverted or all the same."""
    values = sorted(set().union(*(case.values for case in seen)) - {255})
    if len(values) > 1:
        shown = ", ".join(map(str, values[:5])) + (" …" if len(values) > 5 else "")
        what = f"the binary masks have {shown} as foreground: if these are numbers of classes, put them into masks/ as label maps"
        yield Finding(what, str(dataset.root), fatal=False)
    masks = Counter(case.mask for case in seen if case.mask)
    for _, count in masks.most_common(1):
        if count > max(2, len(seen) / 2):
            what = f"the masks of {count} of {len(seen)} images are the same: are they a field of view, or copies of one file?"
            yield Finding(what, str(dataset.root), fatal=False)
    for k, name in enumerate(dataset.classes):
        shares = [case.foreground[k] for case in seen if len(case.foreground) == len(dataset.classes)]
        if shares and sum(shares) / len(shares) > _MOSTLY:
            shown = f"foreground covers {100 * sum(shares) / len(shares):.0f} % of the pixels"
            what = f"{shown}: are the masks inverted, or a field of view?"
            yield Finding(what, f"class {name}", fatal=False)


def _split_notes(dataset: Dataset, plan: SplitPlan | None) -> list[Finding]:
    notes = plan.notes if plan else dataset.given.notes
    return [Finding(note, "split", fatal=False) for note in notes]


def _duplicates(pairs: Sequence[tuple[str, str, float]], plan: SplitPlan | None) -> list[Finding]:
    parts = {name: part for part in PARTS for name in (getattr(plan.splits, part) if plan else ())}
    findings = []
    for a, b, agreement in pairs:
        kind = "identical images" if agreement == 1 else f"near-duplicates (agreement {agreement:.3f})"
        apart = a in parts and b in parts and parts[a] != parts[b]
        what = f"{kind}, but in {parts[a]} and in {parts[b]}" if apart else f"{kind}: kept together by the clean protocol"
        findings.append(Finding(what, f"{a} = {b}", fatal=False))
    return findings


def _facts(dataset: Dataset, cases: list[_Seen]) -> dict[str, str]:
    shares = list(zip(*(case.foreground for case in cases if case.foreground), strict=True))
    volumes = dataset.spatial_dims == 3
    facts = {
        "layout": dataset.layout,
        "target": dataset.target,
        "images with masks": str(len(dataset.cases)),
        "classes": ", ".join(_classes(dataset)),
        "ignored label": "none" if dataset.ignored is None else str(dataset.ignored),
        f"sizes ({'depth×' * volumes}height×width)": _counted(case.size for case in cases),
        "modes": _counted(case.mode for case in cases),
    }
    if volumes:
        facts["spacings (mm)"] = _counted(case.spacing for case in cases)
        facts["orientations"] = _counted(case.orientation for case in cases)
    for name, values in zip(dataset.classes, shares, strict=False):
        empty = sum(value == 0 for value in values)
        mean, low, high = 100 * sum(values) / len(values), 100 * min(values), 100 * max(values)
        facts[f"class {name}"] = f"foreground {mean:.1f} % ({low:.1f} … {high:.1f} %), {empty} empty masks"
    return facts


def _classes(dataset: Dataset) -> list[str]:
    """Names, with the value where it says more."""
    values = dataset.label_values or dataset.classes
    return [name if name == str(value) else f"{name} ({value})" for name, value in zip(dataset.classes, values, strict=True)]


def _counted(values: Iterable[str]) -> str:
    counts = Counter(value for value in values if value).most_common()
    shown = ", ".join(f"{value} ({n})" for value, n in counts[:5])
    return shown + (f", and {len(counts) - 5} others" if len(counts) > 5 else "")


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
