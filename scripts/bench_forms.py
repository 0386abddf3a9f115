"""The engine's choices measured anew, on whatever device runs: its psums and accumulators in other types and forms."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from bench_figure import Figure, best_seconds

from factory.arithmetic.tiling import tile_activation
from factory.engine import EngineLayer, LayerValues, activation_tiles, convolve, layer_psums
from factory.engine.layer import shifted_views

Form = Callable[[jax.Array | None], jax.Array]
"""Computes a result anew; it may take the memory of an earlier one, which is then gone."""

CACHE = 100_000_000
"""More bytes than the caches of a processor hold."""
EXACT = jax.lax.Precision.HIGHEST
PRODUCTS = {"float32": jnp.float32, "bfloat16": jnp.float32, "int8": jnp.int32, "int32": jnp.int32}
"""Types of a matrix product's operands, and the type that it sums in."""


ENGINE = "the engine's own"


def form_figures(values: Sequence[LayerValues], rounds: int) -> list[Figure]:
    """Return the speed of each form beside the engine's own; raise ValueError where a form's values are others."""
    figures = []
    for value in values:
        layer, codes = value.layer, value.activation
        conv = layer.spec
        own: dict[str, Form] = {ENGINE: partial(layer_psums, layer, codes)}
        figures += _compared(f"psums of {conv.name}", dict(psum_forms(layer, codes)) | own, rounds)
        own = {ENGINE: lambda _, layer=layer, codes=codes: convolve(layer, codes)}
        figures += _compared(f"accumulators of {conv.name}", dict(conv_forms(layer, codes)) | own, rounds)
    return figures


def _compared(what: str, forms: dict[str, Form], rounds: int) -> Iterator[Figure]:
    results = {name: form(None) for name, form in forms.items()}
    expected = np.asarray(results[ENGINE]).copy()
    for name, result in results.items():
        if result.dtype != expected.dtype or not np.array_equal(result, expected):
            raise ValueError(f"{what}: {name} must give the engine's values")

    def again(name: str) -> None:
        results[name] = jax.block_until_ready(forms[name](results[name]))

    memory = np.ones(CACHE, np.uint8)
    tasks: dict[str, Callable[[], object]] = {}
    for name in forms:  # each finds its memory in no cache, as in a network of many layers
        tasks |= {f"before {name}": partial(memory.fill, 1), name: partial(again, name)}
    seconds = best_seconds(rounds, tasks)
    speed = {name: expected.nbytes / seconds[name] / 1e9 for name in forms}
    for name in forms:
        if name != ENGINE:
            yield Figure(f"{what}: {name}", speed[name], speed[ENGINE], "GB/s", ENGINE)


def psum_forms(layer: EngineLayer, codes: jax.Array) -> Iterator[tuple[str, Form]]:
    """Yield forms of a layer's psums `(image, it, ot, kij, nij, col)`, in the engine's type, by what they are."""
    tiles, weight = activation_tiles(layer, codes), layer.row_weight

    def from_codes(codes: jax.Array, weight: jax.Array) -> jax.Array:
        own_tiles = tile_activation(codes.astype(weight.dtype), layer.geometry, layer.array)
        return _sum_of_products(own_tiles.swapaxes(-1, -2), weight)

    for dtype in ("int32", "float32"):
        operands = codes, weight.astype(dtype)
        yield f"sums of products in {dtype}", _form(from_codes, operands, layer.psum_type)
    operands = jnp.asarray(tiles.swapaxes(-1, -2)).astype(weight.dtype), weight
    yield "codes padded and tiled beforehand, rows outermost", _form(_sum_of_products, operands, layer.psum_type)
    operands = tiles.astype(layer.psum_type), weight.astype(layer.psum_type)
    yield "codes padded and tiled beforehand, rows innermost", _form(_sum_over_rows, operands, layer.psum_type)
    for dtype, total in PRODUCTS.items():
        operands = tiles.astype(dtype), weight.astype(dtype)
        yield f"matrix products of {dtype}", _form(partial(_product, total=total), operands, layer.psum_type)


def conv_forms(layer: EngineLayer, codes: jax.Array) -> Iterator[tuple[str, Form]]:
    """Yield forms of a layer's accumulators int32 `(image, oc, oy, ox)`, by what they are."""
    conv = layer.geometry
    for dtype, total in PRODUCTS.items():
        if layer.matmul_groups > 1 and total == jnp.float32:
            continue  # one product is not exact

        def compute(codes: jax.Array, weight: jax.Array, total: jnp.dtype = total) -> jax.Array:
            views = shifted_views(codes.astype(weight.dtype), conv)
            sums = jnp.matmul(views, weight, precision=EXACT, preferred_element_type=total)
            return sums.reshape(-1, conv.out_height, conv.out_width, conv.out_channels).transpose(0, 3, 1, 2)

        yield f"a matrix product of {dtype}", _form(compute, (codes, layer.matmul_weight.astype(dtype)), "int32")


def _form(compute: Callable[..., jax.Array], operands: tuple[jax.Array, ...], dtype: np.dtype | str) -> Form:
    """Return a compiled form; its operands lie ready in memory."""

    @partial(jax.jit, donate_argnums=0, keep_unused=True)
    def run(reuse: jax.Array | None, *operands: jax.Array) -> jax.Array:
        return compute(*operands).astype(dtype)

    return partial(lambda operands, reuse: run(reuse, *operands), jax.block_until_ready(operands))


def _sum_of_products(activation: jax.Array, weight: jax.Array) -> jax.Array:
    """`(image, it, row, nij)`, `(it, ot, kij, row, col)` -> `(image, it, ot, kij, nij, col)`, as the engine does."""
    rows = range(weight.shape[-2])
    products = [activation[:, :, None, None, row, :, None] * weight[None, :, :, :, row, None] for row in rows]
    return reduce(jnp.add, products)


def _sum_over_rows(activation: jax.Array, weight: jax.Array) -> jax.Array:
    """`(image, it, nij, row)`, `(it, ot, kij, row, col)` -> the same."""
    wide = activation[:, :, None, None, :, None, :] * weight.swapaxes(-1, -2)[None, :, :, :, None]
    return wide.sum(-1, dtype=wide.dtype)


def _product(activation: jax.Array, weight: jax.Array, total: jnp.dtype) -> jax.Array:
    """`(image, it, nij, row)`, `(it, ot, kij, row, col)` -> the same."""
    return jnp.einsum("binr,iokrc->bioknc", activation, weight, precision=EXACT, preferred_element_type=total)
