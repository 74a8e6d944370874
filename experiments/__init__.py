"""absl binaries, one per question; run as `python -m experiments.NAME`."""
