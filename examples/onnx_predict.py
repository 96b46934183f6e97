"""Mask of an image by a file that ``allukan export --format onnx`` wrote: ``python onnx_predict.py MODEL.onnx IMAGE MASK.png``.

Needs numpy, Pillow and onnxruntime; neither torch nor allukan. Where classes overlap the mask holds the highest value.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, image, mask = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
about = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
picture, channels = ImageOps.exif_transpose(Image.open(image)), len(about.get("mean", []))
if about["normalisation"] != "training" or channels not in (1, 3) or picture.mode[0] in "IF":
    sys.exit("this example is for pictures of 8 bits, grey or RGB, and for models of such")
picture = picture.convert("L" if channels == 1 else "RGB")
height, width = about["size"]
x = np.atleast_3d(np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)))  # (H, W, C), bytes
if about["image"] != "bytes":
    x = ((x / 255 - np.array(about["mean"])) / np.array(about["std"])).astype(np.float32)
(logits,) = session.run(None, {"image": x.transpose(2, 0, 1)[None]})  # (1, K', H, W)
if about["target"] == "multiclass":
    probability = np.exp(logits[0] - logits[0].max(0)) / np.exp(logits[0] - logits[0].max(0)).sum(0)
else:
    probability = 1 / (1 + np.exp(-logits[0]))
planes = [np.asarray(Image.fromarray(plane).resize(picture.size, Image.Resampling.BILINEAR)) for plane in probability]
if about["target"] == "multiclass":
    found = [np.argmax(planes, 0) == number for number in range(1, len(planes))]
else:
    found = [plane > about["threshold"] for plane in planes]
values = about["label_values"] or ([255] if about["target"] == "binary" else range(1, len(found) + 1))
label = np.max([plane * np.uint16(value) for plane, value in zip(found, values, strict=True)], 0)
Image.fromarray(label.astype(np.uint8 if max(values) < 256 else np.uint16)).save(mask)
