"""The process that holds one device: rows come in over stdin, results leave over stdout.

Three threads share the work, so that the device never waits for a pipe: one reads and unpacks
what comes, one computes, one sends. The process ends when stdin does, whatever it is doing;
signals that are meant for the rig (Ctrl-C reaches every process of a terminal) are ignored.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np

from gpu_worker.devices import frames
from gpu_worker.devices.processor import physical_memory, processor_kind
from gpu_worker.devices.stages import StageClock
from gpu_worker.engine import DeviceLost, Engine, EngineError, OutOfMemory

DEFAULT_ENGINE = "gpu_worker.engine:load_engine"
_CHUNKS_WAITING = 8
"""Chunks that may wait for the pipe before the device does: they hold at most a mebibyte each."""
_READ_BYTES = 1 << 20
_LOST_STATUS = 3


class Outlet:
    """Sends frames from a thread of its own, in order."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: Queue[bytearray | None] = Queue(_CHUNKS_WAITING)
        self._thread = threading.Thread(target=self._write, name="outlet", daemon=True)
        self._thread.start()

    def send(self, message: frames.FromDevice) -> None:
        """Queue a message; waits while too many wait."""
        self._queue.put(frames.encode(message))

    def flush(self) -> None:
        """Return once everything is sent; nothing can be sent afterwards."""
        self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        while (frame := self._queue.get()) is not None:
            left = memoryview(frame)
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BrokenPipeError:
                    os._exit(0)  # the rig is gone, and nobody wants the rest


class Child:
    """Loads engines and computes runs in the order in which they came."""

    def __init__(self, load: Callable[..., Engine], outlet: Outlet) -> None:
        self._load = load
        self._outlet = outlet
        # What to compute or to free, with the time at which it came.
        self._queue: Queue[tuple[frames.Compute | frames.Unload, float]] = Queue()
        self._loads: Queue[frames.Load] = Queue()
        self._engines: dict[int, Engine] = {}
        self._open: set[int] = set()  # runs that came and are not over
        self._cancelled: set[int] = set()
        self._stages = StageClock()
        self._ended: float | None = None  # when the last run was over

    def read(self, descriptor: int) -> None:
        """Take messages until the rig closes the pipe, then end the process."""
        splitter = frames.Splitter(frames.to_device)
        while data := os.read(descriptor, _READ_BYTES):
            for message in splitter.feed(data):
                match message:
                    case frames.Compute():
                        self._open.add(message.run)
                        self._queue.put((message, time.perf_counter()))
                    case frames.Unload():
                        self._queue.put((message, time.perf_counter()))
                    case frames.Cancel():
                        if message.run in self._open:
                            self._cancelled.add(message.run)
                    case frames.Load():
                        self._loads.put(message)
        os._exit(0)

    def load_forever(self) -> None:
        """Load engines beside the computing, one at a time."""
        while True:
            message = self._loads.get()
            try:
                engine = self._load(
                    json.loads(message.manifest),
                    {name: Path(path) for name, path in message.files.items()},
                )
            except DeviceLost as error:
                self._lost(error)
            except Exception as error:
                memory, words = _described(error)
                self._outlet.send(frames.LoadFailed(message.engine, memory, words))
            else:
                self._engines[message.engine] = engine
                self._outlet.send(frames.Loaded(message.engine))

    def compute_forever(self) -> None:
        """Compute what was queued, one run after the other."""
        while True:
            message, came = self._queue.get()
            if isinstance(message, frames.Unload):
                engine = self._engines.pop(message.engine, None)
                if engine is not None:
                    self._stages.forget(engine)
                    engine.close()
                continue
            try:
                self._compute(message, came)
            except DeviceLost as error:
                self._lost(error)
            except Exception as error:
                memory, words = _described(error)
                self._outlet.send(frames.Failed(message.run, memory, words))
            finally:
                self._ended = time.perf_counter()
                self._open.discard(message.run)
                self._cancelled.discard(message.run)

    def _compute(self, message: frames.Compute, came: float) -> None:
        run = message.run
        if run in self._cancelled:
            self._outlet.send(frames.Finished(run, {}))
            return
        began = time.perf_counter()
        ended = self._ended
        handover = no_share = 0.0
        if ended is not None:
            handover, no_share = began - max(ended, came), max(0.0, came - ended)
        self._outlet.send(frames.Begun(run, handover, no_share))
        engine = self._engines[message.engine]
        chunks = engine.run(
            message.operation,
            np.frombuffer(message.lengths, np.uint32),
            np.frombuffer(message.tokens, np.uint32),
            message.rows_per_chunk,
        )
        try:
            since = time.perf_counter()
            while run not in self._cancelled and (chunk := next(chunks, None)) is not None:
                values = np.ascontiguousarray(chunk.values)
                self._outlet.send(
                    frames.Part(
                        run,
                        chunk.first_row,
                        values.dtype.str,
                        (values.shape[0], values.shape[1]),
                        values.reshape(-1).view(np.uint8).data,
                        tuple(int(row) for row in chunk.failed),
                        time.perf_counter() - since,
                    )
                )
                since = time.perf_counter()
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        self._outlet.send(frames.Finished(run, self._stages.since(engine)))

    def _lost(self, error: DeviceLost) -> None:
        """Say so, then end at once: nothing that a lost device's libraries do can be trusted."""
        self._outlet.send(frames.Lost(str(error)))
        self._outlet.flush()
        os._exit(_LOST_STATUS)


def check_device(backend: str, ordinal: int) -> None:
    """Check that this process computes as every other machine does; ``EngineError`` if not.

    Golden vectors are computed on a GPU. For a processor the rig has computed them once: with the
    same libraries every process of the machine gives the same, and canaries find the rest.
    """
    from gpu_worker.engine import check_canaries, check_golden

    if backend not in ("numpy", "cupy"):
        raise EngineError(f"backend {backend!r} is not supported; supported: numpy, cupy")
    check_canaries()
    if backend == "cupy":
        check_golden(backend, ordinal)


def describe(backend: str, ordinal: int, threads: int | None) -> frames.Ready:
    """The device's name and memory."""
    if backend != "cupy":
        return frames.Ready(processor_kind(threads), physical_memory(), "")
    import cupy

    from gpu_worker.devices.probe import look

    gpu = look(cupy).gpus[ordinal]
    return frames.Ready(gpu.name, gpu.memory, gpu.pci)


def main() -> None:
    """Serve the device that the arguments name until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", required=True)
    parser.add_argument("--ordinal", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--engine", default=DEFAULT_ENGINE)
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGUSR2", signal.SIGTERM)):
        signal.signal(number, signal.SIG_IGN)
    # Whatever a library prints must not end up between the frames.
    outlet = Outlet(os.dup(1))
    os.dup2(2, 1)
    child = Child(
        _loader(options.engine, options.backend, options.ordinal, options.threads), outlet
    )
    threading.Thread(target=child.read, args=(0,), name="inlet", daemon=True).start()
    try:
        check_device(options.backend, options.ordinal)
        ready = describe(options.backend, options.ordinal, options.threads)
    except DeviceLost as error:
        outlet.send(frames.Lost(str(error)))
        outlet.flush()
        sys.exit(_LOST_STATUS)
    except Exception as error:
        outlet.send(frames.Refused(_described(error)[1]))
        outlet.flush()
        sys.exit(1)
    outlet.send(ready)
    threading.Thread(target=child.load_forever, name="loader", daemon=True).start()
    child.compute_forever()


def _loader(
    engine: str, backend: str, ordinal: int, threads: int | None
) -> Callable[[Mapping[str, Any], Mapping[str, Path]], Engine]:
    module, _, name = engine.partition(":")
    options: dict[str, Any] = {"backend": backend, "threads": threads}
    if backend == "cupy":
        options["device"] = ordinal

    def load(manifest: Mapping[str, Any], files: Mapping[str, Path]) -> Engine:
        factory = getattr(importlib.import_module(module), name)
        made: Engine = factory(manifest, files, **options)
        return made

    return load


def _described(error: Exception) -> tuple[bool, str]:
    """Whether memory was lacking, and words."""
    if isinstance(error, MemoryError | OutOfMemory):
        return True, str(error) or "the device has too little memory for it"
    if isinstance(error, EngineError):
        return False, str(error)
    return False, f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
