"""Quantizers: the exact float32 formulas on the host (`host`), and their trainable JAX form (`ste`)."""
