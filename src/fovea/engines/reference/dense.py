"""Matrix products: the fully connected layer, and products of two activations."""

from __future__ import annotations

from fovea.engines.reference.pair import Array, Arrays, BackwardResult, ForwardResult, Key, Needs, Params
from fovea.ops.dense import Dense, MatMul

__all__ = ["dense_backward", "dense_forward", "matmul_backward", "matmul_forward"]


# Y[n, o] = bias[o] + sum_c X[n, c] W[c, o]
def dense_forward(
    op: Dense, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*any,C_in -> N,*any,C_out."""
    (x,) = inputs
    output = x @ params["weight"]  # N,*any,Cout
    if op.use_bias:
        output = output + params["bias"]
    return (output,), x, {}


# dL/dX = delta @ W^T,   dL/dW = X^T @ delta,   dL/dbias = sum_n delta[n]
def dense_backward(op: Dense, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """Gradients of the input, the weight and the bias."""
    (delta,), x = grad_outputs, saved
    rows, columns = x.reshape(-1, x.shape[-1]), delta.reshape(-1, delta.shape[-1])  # N*any,Cin  N*any,Cout
    grad_params = {}
    if "weight" in needs.params:
        grad_params["weight"] = rows.T @ columns  # Cin,Cout
    if "bias" in needs.params:
        grad_params["bias"] = columns.sum(axis=0)  # Cout
    grad_x = delta @ params["weight"].T if needs.inputs[0] else None  # N,*any,Cin
    return (grad_x,), grad_params


# Y = A @ B, sample by sample
def matmul_forward(
    op: MatMul, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*b,m,k and N,*b,k,n -> N,*b,m,n."""
    a, b = inputs
    return (a @ b,), (a, b), {}


# dL/dA = delta @ B^T,   dL/dB = A^T @ delta
def matmul_backward(op: MatMul, grad_outputs: Arrays, saved: Arrays, params: Params, *, needs: Needs) -> BackwardResult:
    """Gradients of both factors."""
    (delta,), (a, b) = grad_outputs, saved
    grad_a = delta @ b.swapaxes(-1, -2) if needs.inputs[0] else None  # N,*b,m,k
    grad_b = a.swapaxes(-1, -2) @ delta if needs.inputs[1] else None  # N,*b,k,n
    return (grad_a, grad_b), {}
