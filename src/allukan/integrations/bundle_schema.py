"""What metadata of a bundle must hold by MONAI's schema 20240725, said again: for ``verify_metadata`` without a network."""

from __future__ import annotations

from typing import Any

SCHEMA_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_TEXTS = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors", "copyright")
_FURTHER_TEXTS = ("data_source", "data_type", "image_classes", "label_classes", "pred_classes", "intended_use")
_MAPPINGS = ("required_packages_version", "changelog", "eval_metrics", "supported_apps")


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _each(kind: str, *names: str) -> dict[str, Any]:
    return {name: {"type": kind} for name in names}


def _list(*kinds: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": list(kinds)}}


_TENSOR = _object(
    {
        **_each("string", "type", "format", "dtype"),
        "num_channels": {"type": "integer"},
        "spatial_shape": _list("string", "integer"),
        "value_range": _list("number"),
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object"},
    },
    *("type", "format", "num_channels", "spatial_shape", "dtype", "value_range"),
)
_VALUES = {"type": "object", "additionalProperties": {"anyOf": [{"type": ["number", "string", "boolean"]}, _TENSOR]}}
_NETWORK = _object(dict.fromkeys(("inputs", "outputs", "post_processed_outputs"), _VALUES), "inputs", "outputs")

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2019-09/schema",
    "$comment": f"the requirements of {SCHEMA_URL}",
    **_object(
        {
            **_each("string", *_TEXTS, *_FURTHER_TEXTS),
            **_each("object", *_MAPPINGS),
            "references": _list("string"),
        },
        *(*_TEXTS, "required_packages_version", "network_data_format"),
    ),
    "patternProperties": {"^[_a-zA-Z0-9]+_data_format$": _NETWORK},
}
