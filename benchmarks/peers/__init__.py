"""This project beside TRL: the losses on the same numbers, and the cost of a step.

The peer's half of each (`peer_losses.py`, `peer_step.py`) is run by another Python that has TRL, and imports nothing of
this project.
"""
