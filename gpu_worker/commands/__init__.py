"""The commands that a miner types."""
