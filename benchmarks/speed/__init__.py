"""How fast the page tests are beside the public olmOCR-Bench package, in one run on the same cases.

    python -m benchmarks.speed.judging [--bench FOLDER] [--oracle FOLDER] [--peer-python PATH]

`cases` says what is judged, `worker` judges it in a process of its own (of this project or of the public package), and
`judging` puts the two side by side. Apart from these, `learner` times this project's update against itself.
"""
