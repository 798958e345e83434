"""Each family of models on a tiny random policy: packed against plain, engine against learner, two ranks, canaries."""
