"""The learner, the algorithms and their loop. Importing it readies transformers' image code (`ocr_rl.models`)."""

import ocr_rl.models as models  # noqa: F401
