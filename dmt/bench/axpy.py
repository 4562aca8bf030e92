"""Products with a sparse left operand as one finds them elsewhere: axpy kernels (SparseProp's idea), torch.sparse."""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
from torch import Tensor

FREE = ("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math")
"""What these kernels gain by -ffast-math, which would also make all of the process take small numbers for zero."""
FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", *FREE, "-std=c++17", "-shared", "-fPIC")


@functools.cache
def library() -> ctypes.CDLL | None:
    """axpy.cpp compiled for this very processor, about a second's work; None where there is no C++ compiler."""
    from torch.utils.cpp_extension import get_cxx_compiler

    with tempfile.TemporaryDirectory() as folder, as_file(files(__package__) / "axpy.cpp") as source:
        built = Path(folder) / "axpy.so"
        try:
            subprocess.run([get_cxx_compiler(), *FLAGS, source, "-o", built], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return ctypes.CDLL(str(built))


@dataclass(frozen=True)
class Axpy:
    """The operands in the form these kernels want: x [M, K] as compressed rows, weight [N, K] as [K, N], float32."""

    code: ctypes.CDLL
    values: Tensor
    columns: Tensor
    starts: Tensor
    weight: Tensor
    bias: Tensor
    grad: Tensor
    sizes: tuple[int, int, int]
    """Rows, columns of x, outputs."""

    @classmethod
    def of(cls, code: ctypes.CDLL, masked: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> Axpy:
        rows = masked.to_sparse_csr()
        return cls(
            code,
            rows.values(),
            rows.col_indices().int(),
            rows.crow_indices(),
            weight.t().contiguous(),
            bias,
            grad,
            (*masked.shape, weight.shape[0]),
        )

    def y(self) -> Tensor:
        """[M, N]."""
        rows, _, outputs = self.sizes
        out = torch.empty(rows, outputs)
        _call(
            self.code.axpy_y, self.values, self.columns, self.starts, self.weight, self.bias, out, sizes=(rows, outputs)
        )
        return out

    def grad_input(self) -> Tensor:
        """dX [M, K]."""
        out = torch.empty(self.sizes[:2])
        _call(self.code.axpy_grad_input, self.columns, self.starts, self.weight, self.grad, out, sizes=self.sizes)
        return out

    def grad_weight(self) -> Tensor:
        """dW [N, K], a transposed view: the kernel leaves it as [K, N]."""
        out = torch.empty(self.sizes[1:])
        _call(self.code.axpy_grad_weight, self.values, self.columns, self.starts, self.grad, out, sizes=self.sizes)
        return out.t()


def _call(function: ctypes._CFuncPtr, *tensors: Tensor, sizes: tuple[int, ...]) -> None:
    function(*(ctypes.c_void_p(t.data_ptr()) for t in tensors), *(ctypes.c_int64(n) for n in sizes))


@dataclass(frozen=True)
class Csr:
    """torch.sparse: y, dX (sampled product) and dW with x as compressed rows, made beforehand or in each call."""

    masked: Tensor
    weight: Tensor
    bias: Tensor
    grad: Tensor
    ready: Tensor
    """x [M, K], compressed."""
    transposed: Tensor
    """Its transpose [K, M], compressed."""
    pattern: Tensor
    """x with zeros for values: where dX is sampled."""

    @classmethod
    def of(cls, masked: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> Csr:
        ready = masked.to_sparse_csr()
        pattern = torch.sparse_csr_tensor(
            ready.crow_indices(), ready.col_indices(), torch.zeros_like(ready.values()), masked.shape
        )
        return cls(masked, weight, bias, grad, ready, masked.t().contiguous().to_sparse_csr(), pattern)

    def y(self) -> Tensor:
        return torch.addmm(self.bias, self.ready, self.weight.t())

    def y_converted(self) -> Tensor:
        return torch.addmm(self.bias, self.masked.to_sparse_csr(), self.weight.t())

    def grad_input(self) -> Tensor:
        """dX [M, K] in compressed rows, as it comes."""
        return torch.sparse.sampled_addmm(self.pattern, self.grad, self.weight)

    def grad_input_converted(self) -> Tensor:
        """With the pattern made from the masked x, and dX made dense again."""
        return torch.sparse.sampled_addmm(self.masked.to_sparse_csr(), self.grad, self.weight, beta=0).to_dense()

    def grad_weight(self) -> Tensor:
        """dW [N, K], a transposed view."""
        return (self.transposed @ self.grad).t()

    def grad_weight_converted(self) -> Tensor:
        return (self.masked.t().contiguous().to_sparse_csr() @ self.grad).t()
