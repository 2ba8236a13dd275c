"""The exact lane on CUDA devices.

``ops.CudaOps`` computes every operation by launching kernels on a ``device.Device``. The kernels
are the ``.cu`` files of ``kernels/``; ``cupydevice`` runs them on a GPU, the tests run the same
files on the host.
"""
