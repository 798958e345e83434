"""Documents become text at any scale: rows that survive a kill, the files that are made of them, and a server."""
