"""Restore one image with ONNX Runtime alone: python experiments/onnx_example.py MODEL.onnx IN.jpg OUT.png"""

import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

picture = ImageOps.exif_transpose(Image.open(source)).convert("RGB")
image = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255  # (1, 3, height, width) in [0, 1]
(restored,) = session.run(["restored"], {"image": image})
pixels = np.rint(restored[0].transpose(1, 2, 0) * 255).astype(np.uint8)
Image.fromarray(pixels).save(target)
