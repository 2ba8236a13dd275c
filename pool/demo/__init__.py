"""The demo: a pool, three rigs and a real model on real text, with every claim verified."""
