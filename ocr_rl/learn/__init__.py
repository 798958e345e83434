"""The learner, the algorithms and their loop."""

from ocr_rl.torchvision_shim import declare_in_time

declare_in_time()  # before its modules import transformers
