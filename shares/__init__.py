"""The rules of the pool, without I/O: work, blocks, the board, trust and money."""
