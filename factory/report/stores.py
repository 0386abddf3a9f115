"""The sections of a store: its network, its layers one by one, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import factory
from factory import plot
from factory.audit import LayerAudit, audit
from factory.report.page import Pictures, Section, card, facts
from factory.spec import Progress
from factory.store import LayerStore, Store
from factory.summary import kernel_text, summarize
from factory.tables import bytes_text, html_table, span


def store_sections(
    store: LayerStore,
    layers: Sequence[str],
    images: Sequence[int],
    pictures: Pictures,
    progress: Progress | None = None,
) -> list[Section]:
    """Return what a page shows of a store; histograms and maps are of some images."""
    audits = {found.name: found for found in audit(store, observe=False)}
    network = pictures.html(
        plot.network(store.network, store.array), "network", f"graph of the layers of {store.network.name}"
    )
    tables = card(network) + card(_layer_table(store), "wide")
    return [
        Section("network", "Network", _store_facts(store) + tables),
        Section("layers", "Layers", _layers(store, layers, images, audits, pictures, progress)),
        Section("edges", "Edge streams", _edges(store, layers, images[0], pictures)),
    ]


def _store_facts(store: LayerStore) -> str:
    array, network = store.array, store.network
    known = {
        "network": network.name,
        "layers": f"{len(store.layers)} of {len(network.layers)}",
        "images": f"{store.image_count:,} ({store.image_source})",
        "array": f"{array.rows} × {array.cols}, adders of {array.psum_bits} bits",
    }
    if isinstance(store, Store):
        known |= {"kept": store.keep, "file": bytes_text(store.path.stat().st_size)}
    else:
        size = sum(shard.bytes for shard in store.record.shards)
        known |= {"shards": f"{len(store.record.shards):,}", "files": bytes_text(size)}
    return facts(known)


def _layer_table(store: LayerStore) -> str:
    shape, sums = ("channels", "map", "kernel", "it × ot", "bits a/w"), ("psum", "bits", "accumulator", "bits", "size")
    rows = [
        (
            x.spec.name, f"{x.spec.in_channels} → {x.spec.out_channels}", f"{x.spec.height}×{x.spec.width}",
            kernel_text(x.spec), "{} × {}".format(*x.tiles), f"{x.spec.activation_bits}/{x.spec.weight_bits}",
            span(x.psum), x.psum.bits, span(x.accumulator), x.accumulator.bits,
            "-" if x.size is None else bytes_text(x.size),
        )
        for x in summarize(store)
    ]  # fmt: skip
    return html_table(("layer", *shape, *sums), rows)


def _layers(
    store: LayerStore,
    layers: Sequence[str],
    images: Sequence[int],
    audits: dict[str, LayerAudit],
    pictures: Pictures,
    progress: Progress | None,
) -> str:
    options = "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in layers)
    counted = f"{'image' if len(images) == 1 else 'images'} {', '.join(map(str, images))}"
    parts = [
        f'<p class="faint">Counts are of {counted}, on a logarithmic axis. Bands are what the weights and the range of '
        "the codes allow, dashed lines the ends of adders.</p>",
        f'<p class="chooser"><label>layer <select id="choose-layer">{options}</select></label></p>',
    ]
    for done, name in enumerate(layers):
        if progress:
            progress(done, len(layers), name)
        counts = plot.histograms(store, name, images, audits[name])
        maps = plot.tile(store, name, images[0])
        about = f"codes, psums and accumulators of {name}"
        parts.append(
            f'<article class="layer card" id="layer-{escape(name)}"><h3>{escape(name)}</h3>{_layer_text(store, name)}'
            + pictures.html(counts, f"{name}-counts", f"how often the {about} have each value")
            + pictures.html(maps, f"{name}-tile", f"one tile of the {about}", "static")
            + '<div class="explore"></div></article>'
        )
    return "\n".join(parts)


def _edges(store: LayerStore, layers: Sequence[str], image: int, pictures: Pictures) -> str:
    """Return the streams of the narrowest layer that is shown: they are alike in all."""
    specs = [store.layers[name].spec for name in layers]
    name = min(specs, key=lambda spec: max(spec.in_channels, spec.out_channels)).name
    drawn = pictures.html(
        plot.edge_streams(store, name, image), "edges", f"words that cross the array's edges in {name}"
    )
    text = (
        f"What crosses the array's edges in one weight-stationary pass of {name}, image {image}: the first tiles, the "
        "middle kernel position. An empty cell is a cycle in which nothing is valid."
    )
    return f'<p class="faint">{escape(text)}</p>{card(drawn)}'


def _layer_text(store: LayerStore, name: str) -> str:
    layer = store.layers[name]
    spec, (its, ots) = layer.spec, layer.weight_tile.shape[:2]
    reads = f"reads {spec.source}, " if spec.source in store.layers else ""
    made_for = f" It catches {layer.pattern.note}." if layer.pattern else ""
    tiles = f"{its} × {ots} tiles (it × ot) at {spec.kij_count} kernel positions"
    return (
        f'<p class="faint">{escape(reads)}{tiles}: {its * ots * spec.kij_count:,} weight tiles.{escape(made_for)}</p>'
    )


def store_provenance(store: LayerStore) -> list[tuple[str, str]]:
    """Return where a store or a dataset comes from, as names and values."""
    shared = [("weights sha256", store.weights_sha256), ("images", store.image_source)]
    if not isinstance(store, Store):
        plan = store.record.plan
        splits = [(f"split {split.name}", f"images {split.images}, layers {split.layers}") for split in plan.splits]
        return [("dataset", store.path.resolve().name), ("origin", plan.origin), *shared, *splits]
    attributes = store.file.attrs
    made = f"factory {attributes.get('factory_version', 'unknown')}"
    own = [("schema", str(attributes["schema"])), ("made by", made)]
    return [("store", store.path.name), ("origin", store.origin), *shared, *own]


def own_provenance() -> list[tuple[str, str]]:
    """Return what made the report."""
    from importlib.metadata import version

    made = ", ".join(f"{name} {version(name)}" for name in ("matplotlib", "numpy", "h5py"))
    return [("report", f"factory {factory.__version__}, {made}")]
