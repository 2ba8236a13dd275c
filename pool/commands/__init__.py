"""The commands of `inferpool`, a file each."""
