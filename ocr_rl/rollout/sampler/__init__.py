"""Samplers: pages in, groups of sibling samples out (`base` says what a sampler is)."""

from ocr_rl.torchvision_shim import declare_in_time

declare_in_time()  # before its modules import transformers or vLLM
