"""What each binary runs: its config from presets and flags, one file each."""
