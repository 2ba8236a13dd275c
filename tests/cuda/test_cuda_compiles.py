"""Every kernel compiles for every kind of GPU, and its float operations round one by one."""

from __future__ import annotations

import re

import pytest
from nvrtc import HOW_TO_GET_NVRTC, CompileError, Program, nvrtc

from gpu_worker.engine.cuda.source import MODULES, OPTIONS, kernels, module_text

pytestmark = pytest.mark.skipif(nvrtc() is None, reason=HOW_TO_GET_NVRTC)

# The instructions of sm_86 and sm_89 are those of sm_80.
TARGETS = (
    "sm_75",
    "sm_80",
    pytest.param("sm_86", marks=pytest.mark.long),
    pytest.param("sm_89", marks=pytest.mark.long),
    "sm_90a",
    "sm_100",
    "sm_120",
)
MAY_FUSE = tuple("--fmad=true" if option == "--fmad=false" else option for option in OPTIONS)
"""So that plain operators on floats show, as fused or as free to be."""

FORBIDDEN = {
    "fused": r"\b(fma|mad)\.\S*f(32|64)\b",
    "free to be fused": r"\b(add|sub|mul)(\.sat)?\.f(32|64)\b",
    "not rounded to nearest": r"\b(add|sub|mul|div|sqrt|rcp)\.(rz|rm|rp)\b",
    "approximate": r"\.approx\b|\bdiv\.full\b|\b(ex2|lg2|sin|cos|tanh|rsqrt)\.",
    "flushes subnormals": r"\.ftz\b",
    "truncates": r"\bcvt\.rzi\.",
    "in no fixed order": r"\b(atom|red)\.\S*\.f(16|32|64)\b",
}


def findings(ptx: str) -> list[str]:
    """What breaks a rule, with the instruction."""
    return [
        f"{what}: {line.strip()}"
        for line in ptx.splitlines()
        for what, pattern in FORBIDDEN.items()
        if re.search(pattern, line.split("//")[0])
    ]


def memory_of_its_own(log: str) -> list[str]:
    """Kernels that keep registers in memory, as the assembler says."""
    lines = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores", log)
    names = re.findall(r"Compiling entry function '(\w+)'", log)
    assert len(lines) == len(names) > 0
    return [name for name, sizes in zip(names, lines, strict=True) if sizes != ("0", "0")]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("module", MODULES)
def test_kernels_compile(module: str, target: str) -> None:
    """To machine code, with everything in registers, and to PTX that keeps the rules."""
    program = Program(module_text(module), target, (*OPTIONS, "--ptxas-options=-v"))

    assert program.cubin_bytes > 0
    assert not memory_of_its_own(program.log)
    assert not findings(program.ptx)
    names = {kernel.name for kernel in kernels().values() if kernel.module == module}
    assert set(re.findall(r"\.entry (\w+)", program.ptx)) == names


@pytest.mark.parametrize("target", ["compute_75", "compute_90a"])
@pytest.mark.parametrize("module", MODULES)
def test_no_float_operation_is_left_to_the_compiler(module: str, target: str) -> None:
    assert not findings(Program(module_text(module), target, MAY_FUSE).ptx)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("y[0] = x[0] * x[1] + x[2];", "fused"),
        ("y[0] = x[0] + x[1];", "free to be fused"),
        ("y[0] = x[0] * x[1];", "free to be fused"),
        ("y[0] = __fmaf_rn(x[0], x[1], x[2]);", "fused"),
        ("y[0] = __fadd_rz(x[0], x[1]);", "not rounded to nearest"),
        ("y[0] = __fdividef(x[0], x[1]);", "approximate"),
        ("y[0] = __expf(x[0]);", "approximate"),
        ("y[0] = rsqrtf(x[0]);", "approximate"),
        ("y[0] = (int)x[0];", "truncates"),
        ("atomicAdd(y, x[0]);", "in no fixed order"),
    ],
)
def test_the_rules_see(line: str, what: str) -> None:
    """Each of these is found, so an empty result means something."""
    text = f'extern "C" __global__ void probe(const float* x, float* y) {{ {line} }}'
    found = findings(Program(text, "compute_80", MAY_FUSE).ptx)

    assert any(words.startswith(what) for words in found), found


def test_flushing_is_seen() -> None:
    text = 'extern "C" __global__ void probe(float* y) { y[0] = __fadd_rn(y[0], y[1]); }'

    assert findings(Program(text, "compute_80", ("--ftz=true",)).ptx)
    assert not findings(Program(text, "compute_80", OPTIONS).ptx)


def test_registers_kept_in_memory_are_seen() -> None:
    text = """extern "C" __global__ void probe(int* y) {
        int some[64];
        for (int i = 0; i < 64; i++) some[i] = i;
        for (int i = 0; i < 64; i++) some[y[i] & 63] ^= some[y[i + 1] & 63] * i;
        y[0] = some[y[1] & 63] + some[y[2] & 63];
    }"""

    assert memory_of_its_own(Program(text, "sm_80", ("--ptxas-options=-v",)).log) == ["probe"]


def test_what_does_not_compile_is_an_error() -> None:
    with pytest.raises(CompileError, match="undefined"):
        Program('extern "C" __global__ void probe() { nothing(); }', "sm_80", OPTIONS)
