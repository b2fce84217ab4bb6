"""``fovea bench``: training steps and inferences beside other libraries, and what each layer makes of the machine.

Only the modules that need a peer import it: ``twins`` and ``torch_side`` PyTorch, ``inference`` ONNX Runtime and
OpenVINO when it runs them. Without them our side is measured alone.
"""
