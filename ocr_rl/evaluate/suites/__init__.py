"""Other people's benchmarks, scored from the folders that their authors publish. No data of theirs is shipped."""
