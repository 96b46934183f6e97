"""The packages that allukan asks for, by its own metadata: which are there, which are missing or of another version."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata

from packaging.requirements import Requirement

from allukan.provenance import installed

_DEVELOPERS = ("dev", "docs")  # the extras that nobody else needs
GIVES = {
    "app": "a page in the browser to try models on",
    "bundle": "export to MONAI bundles",
    "dicom": "masks as DICOM SEG",
    "hub": "models from and to the Hugging Face Hub",
    "nnunet": "plans, networks and a trainer for nnU-Net v2",
    "nnunet-nets": "nnU-Net's networks to compare with",
    "onnx": "export to ONNX",
}  # what an extra is for
_TRITON = "optional, for CUDA: it comes with the CUDA builds of torch, or pip install triton"


@dataclass(frozen=True)
class Package:
    """One package: ``version`` is None where it is missing, ``advice`` is empty where it is as it should be."""

    name: str
    version: str | None
    required: bool
    advice: str = ""


def packages() -> list[Package]:
    """What allukan needs and what it can do without, triton last; only the latter where allukan runs from its sources."""
    try:
        about = metadata("allukan")
    except PackageNotFoundError:
        return [_optional("triton", _TRITON)]
    extras = [extra for extra in about.get_all("Provides-Extra") or () if extra not in _DEVELOPERS]
    needed, others = list[Package](), list[Package]()
    for text in about.get_all("Requires-Dist") or ():
        requirement = Requirement(text)
        extra = _extra(requirement, extras)
        if extra == "":
            needed.append(_needed(requirement))
        elif extra:
            others.append(_optional(requirement.name, f"optional, {GIVES[extra]}: pip install 'allukan[{extra}]'"))
    return [*needed, *others, _optional("triton", _TRITON)]


def _extra(requirement: Requirement, extras: list[str]) -> str | None:
    """The extra that wants it, "" where everybody does, None where nobody does on this machine."""
    marker = requirement.marker
    return next((extra for extra in ("", *extras) if marker is None or marker.evaluate({"extra": extra})), None)


def _needed(requirement: Requirement) -> Package:
    name, version, wanted = requirement.name, installed(requirement.name), requirement.specifier
    fits = version is not None and wanted.contains(version, prereleases=True)
    return Package(name, version, True, "" if fits else f"pip install '{name}{wanted}'")


def _optional(name: str, advice: str) -> Package:
    version = installed(name)
    return Package(name, version, False, "" if version else advice)
