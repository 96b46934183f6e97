"""What the user should know about a split, in sentences."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from allukan.data.dataset import Dataset
from allukan.data.drawing import SHARES, Pairs, join
from allukan.data.groups import likely_groups
from allukan.data.masks import read_masks
from allukan.data.splits import PARTS, Splits

_SLACK = 0.25  # of the images that a part should have, by which it may differ without a word; and one image and a half


def uneven_notes(splits: Splits, groups: Mapping[str, str], pairs: Pairs, shares: Mapping[str, float] = SHARES) -> list[str]:
    """Where the parts of a drawn split are far from their ``shares``: their sizes, why, and what to do."""
    total = sum(splits.counts.values())
    wanted = {part: shares[part] * total for part in PARTS}
    if all(abs(splits.counts[part] - wanted[part]) <= max(1.5, _SLACK * wanted[part]) for part in PARTS):
        return []
    have, should = (", ".join(f"{round(number[part])} {part}" for part in PARTS) for number in (splits.counts, wanted))
    return [f"the split is {have} instead of about {should}, because {_cause(splits, groups, pairs)}."]


def _cause(splits: Splits, groups: Mapping[str, str], pairs: Pairs) -> str:
    ids = sorted({*splits.train, *splits.val, *splits.test})
    largest = max(join(ids, groups, pairs), key=len)
    labels = {groups[name] for name in largest if name in groups}
    if len(labels) == 1 and all(name in groups for name in largest):
        return (
            f"the group {labels.pop()!r} alone has {len(largest)} images: give finer groups, or a split of your own with --splits"
        )
    inside = [pair for pair in pairs if {*pair} <= set(largest)]
    if not inside:
        return "the groups are few or uneven: give finer groups, or a split of your own with --splits"
    among = f" of {len(labels)} groups" if labels else ""
    return (
        f"near-duplicates, as {inside[0][0]!r} and {inside[0][1]!r}, join {len(largest)} images{among} into one group: "
        "look at those pairs, remove copies, or give a split of your own with --splits"
    )


def leak_notes(splits: Splits, groups: Mapping[str, str], pairs: Pairs) -> list[str]:
    """How many near-duplicates and groups a given split has on both sides."""
    part_of = {name: part for part in PARTS for name in getattr(splits, part)}
    notes = []
    torn = [(a, b) for a, b in pairs if a in part_of and b in part_of and part_of[a] != part_of[b]]
    if torn:
        a, b = torn[0]
        where = f"{a!r} in {part_of[a]} and {b!r} in {part_of[b]}"
        notes.append(
            f"{len(torn)} pairs of near-duplicates are in two parts of {splits.origin}, as {where}: scores will be too good."
        )
    places: dict[str, set[str]] = defaultdict(set)
    for name in sorted(part_of.keys() & groups.keys()):
        places[groups[name]].add(part_of[name])
    spread = sorted(group for group, parts in places.items() if len(parts) > 1)
    if spread:
        where = f"{spread[0]!r} in {' and '.join(part for part in PARTS if part in places[spread[0]])}"
        notes.append(f"{len(spread)} groups are in more than one part of {splits.origin}, as {where}: scores will be too good.")
    return notes


def group_notes(dataset: Dataset, splits: Splits, groups: Mapping[str, str]) -> list[str]:
    """How many ids the groups name that are no image; without groups, whether the names look like those of some."""
    if not groups:
        hint = likely_groups(*(ids for part in PARTS if (ids := getattr(splits, part))))
        return [hint] if hint else []
    unknown = sorted(groups.keys() - set(dataset.ids))
    if not unknown:
        return []
    return [f"the groups name {len(unknown)} ids that are no image of {dataset.root}, as {unknown[0]!r}: they are not used."]


def class_notes(dataset: Dataset, splits: Splits) -> list[str]:
    """Classes that are in some part, but in no image of train, or of another part."""
    with ThreadPoolExecutor() as pool:
        present = list(pool.map(lambda case: [bool((mask == 1).any()) for mask in read_masks(case, dataset)], dataset.cases))
    seen = dict(zip(dataset.ids, present, strict=True))
    notes = []
    for k, label in enumerate(dataset.classes):
        counts = Counter({part: sum(bool(seen[name][k]) for name in getattr(splits, part)) for part in PARTS})
        lacks = [part for part in PARTS if getattr(splits, part) and not counts[part]]
        if not counts.total() or not lacks:
            continue
        what = "it cannot be learned" if "train" in lacks else "the scores there say nothing about it"
        held = ", ".join(f"{counts[part]} of {part}" for part in PARTS if counts[part])
        notes.append(f"class {label!r} is in no image of {' and '.join(lacks)}, only in {held}: {what}.")
    return notes
