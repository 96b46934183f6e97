"""The codecs of DICOM: one for each transfer syntax, of imagecodecs, which decodes TIFF as well.

Not GDCM (through SimpleITK): it reads 16-bit colour in RLE and 32-bit big-endian numbers wrongly, and says nothing
(docs/evidence/formats-read.md).
"""

from __future__ import annotations

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder
from pydicom.pixels.common import PhotometricInterpretation as Photometric
from pydicom.pixels.decoders.base import Decoder, DecodeRunner

_CODECS = {
    uid.JPEGExtended12Bit: imagecodecs.jpeg8_decode,
    uid.JPEGLossless: imagecodecs.jpeg8_decode,
    uid.JPEGLosslessSV1: imagecodecs.jpeg8_decode,
    uid.JPEGLSLossless: imagecodecs.jpegls_decode,
    uid.JPEGLSNearLossless: imagecodecs.jpegls_decode,
    uid.JPEG2000Lossless: imagecodecs.jpeg2k_decode,
    uid.JPEG2000: imagecodecs.jpeg2k_decode,
}
_OF_PYDICOM = {  # what it decodes itself, and JPEG of 8 bits, whose colours it knows how to turn, with Pillow
    uid.ImplicitVRLittleEndian: "",
    uid.ExplicitVRLittleEndian: "",
    uid.DeflatedExplicitVRLittleEndian: "",
    uid.ExplicitVRBigEndian: "",
    uid.RLELossless: "pydicom",
    uid.JPEGBaseline8Bit: "pillow",
}
_NAME = "imagecodecs"
DECODER_DEPENDENCIES = dict.fromkeys(_CODECS, ("imagecodecs",))  # which pydicom asks a plugin for


def is_available(syntax: str) -> bool:
    """Which pydicom asks a plugin."""
    return syntax in _CODECS


def is_read(syntax: str) -> bool:
    """Whether pixel data in a transfer syntax can be decoded here."""
    return syntax in _CODECS or syntax in _OF_PYDICOM


def decode(dataset: Dataset) -> NDArray:
    """All frames ``(frames, H, W[, 3])`` as stored, YBR turned into RGB; whatever pydicom or a codec raises for damage."""
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder, plugin = get_decoder(syntax), _OF_PYDICOM.get(syntax)
    if plugin is None:
        decoder, plugin = Decoder(syntax), _NAME  # of our own: those of pydicom are everybody's
        decoder.add_plugin(_NAME, (__name__, "decode_frame"))
    array, properties = decoder.as_array(dataset, decoding_plugin=plugin, allow_excess_frames=False)
    spare = 8 * array.itemsize - int(dataset.BitsStored)  # overlays, or the sign that a codec did not extend
    if spare > 0:
        array = (array << spare) >> spare
    frames = int(properties["number_of_frames"])
    return array.reshape(frames, *array.shape[array.ndim - (3 if dataset.SamplesPerPixel > 1 else 2) :])


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    """One frame, as pydicom asks of a plugin: little-endian values, and what about them is not as the header says."""
    array = _CODECS[runner.transfer_syntax](source)
    if array.size != runner.rows * runner.columns * runner.samples_per_pixel:
        raise ValueError(f"a frame of {array.shape} values is not what the header says")
    runner.set_option("bits_allocated", 8 * array.itemsize)
    runner.set_option("planar_configuration", 0)
    if runner.photometric_interpretation in (Photometric.YBR_ICT, Photometric.YBR_RCT):
        runner.set_option("photometric_interpretation", Photometric.RGB)  # which is what JPEG 2000 turns them into
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
