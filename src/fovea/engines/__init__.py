"""How it is computed: one contract (base.py), one folder per engine."""
