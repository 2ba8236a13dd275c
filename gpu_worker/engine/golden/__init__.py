"""Golden vectors: what each operation and whole tiny models give, bit by bit."""
