"""Samplers: pages in, groups of sibling samples out (`base` says what a sampler is)."""
