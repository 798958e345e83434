"""A run to look at: its post-mortem as a page for a browser, and the run as it goes in a terminal. No torch."""
