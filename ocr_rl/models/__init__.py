"""Models: which there are, how they want to be asked, how their weights are read, what is particular to a family.

Importing this package makes transformers' image code importable (`ocr_rl.torchvision_shim`); it loads no torch.
"""

from ocr_rl.torchvision_shim import declare_in_time

declare_in_time()
