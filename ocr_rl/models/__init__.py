"""Models: which there are, how their weights are read, and what is particular to a family.

Whoever imports transformers' image code imports this package first: it declares the operators that a CUDA build of
torchvision lacks beside CPU torch (`torchvision_shim`). The packages that need it do so in their `__init__`, so every
module imports torch and transformers plainly.
"""

from ocr_rl.models.torchvision_shim import declare

declare()
