"""`ocr-rl pages review`: a person keeps, drops or edits tests, beside the page's image."""
