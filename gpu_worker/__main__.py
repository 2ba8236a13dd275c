"""``python -m gpu_worker`` is ``inferpool worker``."""

from __future__ import annotations

from gpu_worker.commands.worker import worker

worker(prog_name="python -m gpu_worker")
