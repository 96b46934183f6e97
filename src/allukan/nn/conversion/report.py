"""What a conversion did, for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Conversion:
    """What ``convert`` did, by module name; ``str`` gives it as text.

    Attributes:
        layers: every converted layer with its base; "identity" where it does not take the place of an activation.
        units: every converted layer that took the norm in front of it along, with that norm's old name.
        padded: every converted layer that took the padding in front of it along, with the old name of that module.
        absorbed: every activation that is now the base of the layers behind it, with that base.
        kept: every activation that stays as it was, with the reason.
        behind_kept: converted layers that read a kept activation, directly.
        left: everything else with a weight of two or more dimensions, which stays as it was, with the reason.
        notes: what else to know.
        deviation: largest difference of the outputs on the example, relative to the largest output.
    """

    layers: dict[str, str]
    units: dict[str, str] = field(default_factory=dict)
    padded: dict[str, str] = field(default_factory=dict)
    absorbed: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    behind_kept: tuple[str, ...] = ()
    left: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    deviation: float = 0.0

    @property
    def absorbed_share(self) -> float:
        """Of the layers that directly follow an activation, the share that absorbed it; NaN where none follows one.

        >>> Conversion({"a": "identity", "b": "relu", "c": "identity"}, behind_kept=("c",)).absorbed_share
        0.5
        """
        absorbing = sum(base != "identity" for base in self.layers.values())
        total = absorbing + len(self.behind_kept)
        return absorbing / total if total else float("nan")

    def __str__(self) -> str:
        counts = ", ".join(f"{count} with base {base}" for base, count in sorted(Counter(self.layers.values()).items()))
        return "\n".join(
            [
                f"{len(self.layers)} KA layers: {counts}",
                *_listed("of them units, normalise → φ → mix, with the norm", self.units),
                *_listed("of them with the padding of", self.padded),
                *_listed("activations absorbed", self.absorbed),
                *_listed("activations kept", self.kept),
                *_listed("layers that read a kept activation", dict.fromkeys(self.behind_kept, "")),
                *_listed("left as they are", self.left),
                *self.notes,
                f"largest difference on the example: {self.deviation:.1e} of the largest output",
            ]
        )


def _listed(title: str, rows: dict[str, str]) -> list[str]:
    if not rows:
        return []
    return [f"{len(rows)} {title}:", *(f"  {name}: {text}" if text else f"  {name}" for name, text in rows.items())]
