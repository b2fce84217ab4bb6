"""Networks as graphs: composition, shape inference, parameters, and their numbers."""
