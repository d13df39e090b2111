"""A picture's ids, and their picture, with nothing but ONNX Runtime, NumPy and Pillow.

    python onnx_ids.py FOLDER photo.jpg back.png

FOLDER is what `vqtok export` wrote. The picture is cut in the middle to sides that the graphs take,
and is not resized: Pillow's resizing gives other pixels than vqtok's, and these other ids.
"""

import json
import sys

import numpy as np
import onnxruntime as ort
from PIL import Image

folder, photo, back = sys.argv[1:]
encoder = ort.InferenceSession(f"{folder}/encoder.onnx", providers=["CPUExecutionProvider"])
decoder = ort.InferenceSession(f"{folder}/decoder.onnx", providers=["CPUExecutionProvider"])
strides = json.loads(encoder.get_modelmeta().custom_metadata_map["vqtok.stride"])
pixels = np.asarray(Image.open(photo).convert("RGB"))
height, width = (side - side % stride for side, stride in zip(pixels.shape, strides, strict=False))
top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
pixels = pixels[None, top : top + height, left : left + width]
(codes,) = encoder.run(["codes"], {"pixels": pixels})
(pictures,) = decoder.run(["pixels"], {"codes": codes})
Image.fromarray(pictures[0]).save(back)
print(codes[0].tolist())
