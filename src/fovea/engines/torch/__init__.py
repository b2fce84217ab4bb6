"""The PyTorch engine: the same graphs on PyTorch's kernels, autograd, optimisers and collectives, on CPUs and GPUs.

**A graph is a function of tensors** (``function.py``): every node is a small module that holds its parameters, and one
rule for each kind of op (``rules/``) says which functions of PyTorch compute it. Backward is PyTorch's autograd.

**Layouts cost nothing.** Values keep our axes N,*spatial,C all the way. Where PyTorch wants N,C,*spatial a rule
permutes axes, which moves no byte: our arrays are PyTorch's channels_last (3-D: channels_last_3d) tensors. Weights are
views with PyTorch's axes in the same way: ``*kernel,in,out`` is seen as ``out,in,*kernel``, dense ``in,out`` as
``out,in``.

**Who owns the numbers** (``weights.py``). The model's ParameterStore does, as for every engine.

* On the CPU, tensors share the memory of the store's arrays, optimiser state and averages too. An update writes where
  the store reads; nothing is ever copied.
* On a GPU, ``Weights`` holds one copy for each store and device, in channels_last, which all plans of that store share.
  It is renewed when the store's version says that somebody else changed the arrays. What an update computes stays on
  the GPU; the store is told that newer values lie there (``store.lend``), and fetches them when somebody reads them: a
  checkpoint, an evaluation on another engine, ``model.parameters()``.

**Randomness** is ``fovea.random``'s generator, written in tensors (``philox.py``): masks equal those of other engines.

**Several processes** (``distributed.py``): under torchrun a training plan averages gradients with
DistributedDataParallel; the training loop knows of it only as a ``World``.
"""

from __future__ import annotations

from fovea.engines.torch.engine import TorchEngine

__all__ = ["TorchEngine"]
