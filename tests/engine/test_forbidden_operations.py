"""A lint of ours: nothing in the engine whose bits differ between machines.

Library functions such as exp, and float sums in an order that the library chooses, give other
bits on other processors. A sum or product that is exact says so on its line: ``# exact: why``.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import gpu_worker.engine

ENGINE = Path(gpu_worker.engine.__file__).parent

NEVER = {
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp", "logaddexp2",
    "tanh", "sinh", "cosh", "arctanh", "arcsinh", "arccosh", "sin", "cos", "tan", "arcsin",
    "arccos", "arctan", "arctan2", "hypot", "sinc", "i0", "erf", "erfc", "cbrt", "power",
    "float_power", "pow", "reciprocal", "softmax", "gelu", "mean", "average", "std", "var",
    "nanmean", "nansum", "norm", "cumprod", "prod", "einsum", "inner", "outer", "tensordot",
    "trapezoid", "interp", "convolve", "correlate", "longdouble", "float16", "half",
}  # fmt: skip
"""Functions of NumPy that must not be called at all."""

ONLY_EXACT = {"sum", "dot", "vdot", "vecdot", "matvec", "vecmat", "matmul", "cumsum"}
"""Functions and methods that need the mark, but for sums of integers that say so by dtype."""

ARRAY_METHODS = {"mean", "std", "var", "prod", "cumprod"}
INTEGER_DTYPES = {"int64", "uint64", "int32"}

FLOAT_NUMERICS = {
    "ops_float.py", "ops_float_numba.py", "kernels_float.py", "tolerance.py", "calibration.py",
}  # fmt: skip
"""What computes the float numerics, and what compares their results."""


def findings(source: str) -> Iterator[tuple[int, str]]:
    lines = source.splitlines()
    if "import compiled" in source:
        yield from untyped_literals(source)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.expr | ast.AugAssign):
            continue
        what = forbidden(node)
        if what is None:
            continue
        own = lines[node.lineno - 1 : node.end_lineno]
        if what.startswith("unmarked") and any("# exact: " in line for line in own):
            continue
        yield node.lineno, what


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def forbidden(node: ast.expr | ast.AugAssign) -> str | None:
    if isinstance(node, ast.BinOp | ast.AugAssign):
        if isinstance(node.op, ast.MatMult):
            return "unmarked @"
        if isinstance(node.op, ast.Pow) and isinstance(node, ast.BinOp):
            constant = isinstance(node.left, ast.Constant)  # 2.0**-50: folded by the compiler
            square = isinstance(node.right, ast.Constant) and node.right.value == 2
            return None if constant or square else "**"
        return "**=" if isinstance(node.op, ast.Pow) else None
    if not isinstance(node, ast.Call):
        return None
    if any(k.arg == "fastmath" and not _is_false(k.value) for k in node.keywords):
        return "unmarked fastmath"
    function = node.func
    if not isinstance(function, ast.Attribute):
        return None
    name = function.attr
    of_numpy = isinstance(function.value, ast.Name) and function.value.id in ("np", "numpy")
    submodule = isinstance(function.value, ast.Attribute) and function.value.attr
    if submodule in ("linalg", "fft"):
        return f"{submodule}.{name}()"
    if name in NEVER and (of_numpy or name in ARRAY_METHODS):
        return f"{name}()"
    if name == "reduce" and isinstance(function.value, ast.Attribute):
        return None if function.value.attr in ("maximum", "minimum") else "unmarked reduce()"
    if name in ONLY_EXACT:
        dtypes = [k.value for k in node.keywords if k.arg == "dtype"]
        whole = any(isinstance(d, ast.Attribute) and d.attr in INTEGER_DTYPES for d in dtypes)
        return None if whole else f"unmarked {name}()"
    return None


def untyped_literals(source: str) -> Iterator[tuple[int, str]]:
    """Float literals in functions that numba compiles: they turn float32 into float64 there."""
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef) and function.decorator_list:
            for node in ast.walk(function):
                literal = node.value if isinstance(node, ast.Constant) else None
                if isinstance(literal, float) and literal not in (0, 1):
                    yield node.lineno, f"literal {literal}"


@pytest.mark.parametrize(
    "path",
    sorted(path for path in ENGINE.rglob("*.py") if path.name not in FLOAT_NUMERICS),
    ids=lambda path: path.name,
)
def test_the_engine_uses_none_of_them(path: Path) -> None:
    found = [f"{path.name}:{line}: {what}" for line, what in findings(path.read_text("utf-8"))]

    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "np.exp(x)", "numpy.log2(x)", "np.tanh(x)", "np.sin(x)", "x.mean(axis=1)", "np.mean(x)",
        "x.sum()", "np.sum(x)", "np.einsum('ij,ij->i', x, x)", "x @ y", "x.dot(y)",
        "np.matmul(x, y)", "np.add.reduce(x)", "x**3", "x**0.5", "x **= 2", "np.power(x, 2)",
        "np.linalg.norm(x)  # exact: no", "np.mean(x)  # exact: no", "np.vecdot(x, x)",
        "njit(fastmath=True)", "njit(fastmath={'reassoc'})",
    ],
)  # fmt: skip
def test_the_lint_sees(line: str) -> None:
    """Each of these is found, so an empty result means something."""
    assert list(findings(line))


@pytest.mark.parametrize(
    "line",
    [
        "x**2", "np.maximum.reduce(x)", "2.0**-50", "np.max(x, axis=1)", "np.rint(x)",
        "np.sum(x, axis=1)  # exact: int64", "np.sum(x, dtype=np.int64)", "x @ y  # exact: ints",
        "exp2(x)", "np.sqrt(x)", "path.exists()", "model.norm(x)",
        "njit(fastmath=False)", "njit(fastmath={'reassoc'})  # exact: integers below 2^53",
    ],
)  # fmt: skip
def test_the_lint_lets_pass(line: str) -> None:
    assert not list(findings(line))


def test_the_exact_operations_import_nothing_of_the_float_numerics() -> None:
    """Else the exemption would reach them."""
    modules = {name.removesuffix(".py") for name in FLOAT_NUMERICS}
    for path in ENGINE.glob("*ops*.py"):
        if path.name not in FLOAT_NUMERICS:
            imported = {
                node.module.rpartition(".")[2]
                for node in ast.walk(ast.parse(path.read_text("utf-8")))
                if isinstance(node, ast.ImportFrom) and node.module
            }

            assert not imported & modules


def test_compiled_functions_have_typed_constants() -> None:
    """A literal of one's own in a compiled function is found, a typed constant is not."""
    source = "from a import compiled\n@compiled()\ndef f(x):\n    return x * {}\n"

    assert list(findings(source.format("0.5")))
    assert not list(findings(source.format("HALF")))


def test_the_mark_counts_within_a_call_of_several_lines() -> None:
    source = textwrap.dedent(
        """
        a = np.matmul(  # exact: int64
            x,
            y,
        )
        """
    )

    assert not list(findings(source))
