"""A model of ours as Python source of a PyTorch module and its state_dict: a writer, a rule for every op, two files."""

from __future__ import annotations
