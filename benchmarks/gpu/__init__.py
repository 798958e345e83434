"""What only a GPU can show, in parts that one command runs: `python -m benchmarks.gpu` (`make gpu`)."""
