"""Jobs: for each layer and image, the output tiles of an array, and which words each takes and gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from factory.spec import ConvLayer, InputError
from factory.testbench.address import Held
from factory.testbench.records import SINKS, SOURCES, Job

_MOST = (1 << 16) - 1
_ONCE = (("", 1), ("", 1))


@dataclass(frozen=True)
class Group:
    """One layer and image of an export.

    `places` says what each place on a selected axis stands for (`it`, `ot`, `pt`, `kij`, `ic`); `held` has the files of
    each stream.
    """

    spec: ConvLayer
    image: int
    dataflow: str
    rows: int
    cols: int
    post: str
    places: Mapping[str, tuple[int, ...]]
    held: Mapping[str, Held]

    def fail(self, text: str) -> InputError:
        """Return the error that a testbench cannot run this layer, to be raised."""
        return InputError(f"testbench: {self.spec.name}: {text}")


def jobs_of(group: Group) -> Iterator[Job]:
    """Yield a layer's and image's jobs; raise InputError for a selection that no array computes."""
    if not group.held.keys() & set(SINKS):
        raise group.fail("something must be compared; include conv or psum, or out with post none, relu or leaky")
    for job in (_ws_jobs if group.dataflow == "ws" else _os_jobs)(group):
        for field in ("it_count", "act_count", "nij_count", "onij_count"):
            if getattr(job, field) > _MOST:
                raise group.fail(f"{field} must be at most {_MOST}, not {getattr(job, field)}")
        yield job


def _ws_jobs(group: Group) -> Iterator[Job]:
    """Weight-stationary: a job for each `ot`, psums over `it`, `kij` and `nij`, outputs over `onij`.

    Where what is accumulated after each `it` is compared, each `it` is a job that continues the one before.
    """
    spec, its = group.spec, group.places["it"]
    if len(group.places["kij"]) != spec.kij_count:
        raise group.fail(f"every kij must be selected, not {len(group.places['kij'])} of {spec.kij_count}")
    if its != tuple(range(its[0], its[0] + len(its))):
        raise group.fail(f"the it selected must follow each other, not be {' '.join(map(str, its))}")
    count = 1 if "partial" in group.held else len(its)
    outer, onij = (("it", count), ("kij", spec.kij_count)), (*_ONCE, ("onij", spec.onij_count))
    loops = dict.fromkeys(SINKS, onij) | {
        "act": (*outer, ("nij", spec.nij_count)),
        "weight": (*outer, ("col", group.cols)),
        "psum": (*outer, ("nij", spec.nij_count)),
    }
    for (ot, ot_label), it in product(enumerate(group.places["ot"]), range(0, len(its), count)):
        last = it + count == len(its)
        yield Job(
            layer=spec.name, image=group.image, it=its[it], ot=ot_label, pt=0, output_stationary=False,
            continues=it > 0, it_count=count, kernel=spec.kernel, stride=spec.stride, padded_width=spec.padded_width,
            out_width=spec.out_width, act_count=spec.nij_count, nij_count=spec.nij_count, onij_count=spec.onij_count,
            post_op=group.post,
            walks={name: held.walk(loops[name], {"it": it, "ot": ot}) for name, held in group.held.items()
                   if last or name not in ("acc", "out")},
        )  # fmt: skip


def _os_jobs(group: Group) -> Iterator[Job]:
    """Output-stationary: a job for each `pt` and `ot`, one step for each `ic` and `kij`, an output for each row."""
    spec, places, rows = group.spec, group.places, group.rows
    steps = (("ic", len(places["ic"])), ("kij", len(places["kij"])), ("", 1))
    for (pt, pt_label), (ot, ot_label) in product(enumerate(places["pt"]), enumerate(places["ot"])):
        fixed = {"pt": pt, "ot": ot, "onij": pt * rows}
        loops = {name: steps if name in SOURCES else (*_ONCE, _pixels(held, pt, rows))
                 for name, held in group.held.items()}  # fmt: skip
        yield Job(
            layer=spec.name, image=group.image, it=0, ot=ot_label, pt=pt_label, output_stationary=True,
            continues=False, it_count=1, kernel=1, stride=1, padded_width=rows, out_width=rows,
            act_count=len(places["ic"]) * len(places["kij"]), nij_count=rows,
            onij_count=max(loops[name][2][1] for name in group.held if name not in SOURCES),
            post_op=group.post,
            walks={name: held.walk(loops[name], fixed) for name, held in group.held.items()},
        )  # fmt: skip


def _pixels(held: Held, pt: int, rows: int) -> tuple[str, int]:
    """Return the axis of a pixel tile's outputs, and how many there are: `onij` ends with the map, `px` is padded."""
    return ("px", rows) if "px" in held.sizes else ("onij", min(rows, held.sizes["onij"] - pt * rows))
