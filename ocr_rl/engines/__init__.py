"""OCR engines that `ocr-rl bench` puts beside policies, one a file; found by entry point like anybody's.

Each is a few lines around a program that is installed elsewhere; what engines have in common is in
`ocr_rl.evaluate.engines`. They give plain text, line by line: no engine here knows tables or formulas.
"""
