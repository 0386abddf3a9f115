"""Wrong arrays and wrong vectors, as substitutions: each must be caught."""
