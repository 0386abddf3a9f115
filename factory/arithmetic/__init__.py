"""The arithmetic floor: fields and bits, labelled arrays, tiling, adders and integer operations; no files, no JAX."""
