"""Tests of experiments/benchmarks."""
