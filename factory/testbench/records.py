"""What a testbench is made of: the device's parameters, its streams, and the steps of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from factory.arithmetic.bits import Field
from factory.arithmetic.labelled import Address
from factory.fileplan import FileSet

ACT, WEIGHT = "act", "weight"
SOURCES = (ACT, WEIGHT)
SINKS = ("psum", "partial", "acc", "out")
STREAMS = (*SOURCES, *SINKS)
POST_OPS = {"none": 0, "relu": 1, "leaky": 2}


@dataclass(frozen=True)
class Kind:
    """A kind of device: its module, the streams at its ports, those of them that leave it, and SystemVerilog.

    `bench` are the files of its testbench, `rtl` those of the device that ships, each in an order in which they
    compile. `valid` names the stream that says which lanes of another hold something. A device with handshakes can be
    stalled.
    """

    top: str
    streams: tuple[str, ...]
    sinks: tuple[str, ...]
    bench: tuple[str, ...]
    rtl: tuple[str, ...]
    valid: Mapping[str, str] = field(default_factory=dict)
    handshakes: bool = True


ARRAY = Kind(
    "factory_array", STREAMS, SINKS, ("factory_stream_pkg", "factory_stream", "factory_sink", "factory_tb"),
    ("delay", "add", "pe", "mesh", "sfu", "array"),
)  # fmt: skip
EDGE_ARRAY = Kind(
    "factory_edge_array",
    ("west", "west_valid", "north", "north_valid", "south", "south_valid"), ("south", "south_valid"),
    ("factory_stream_pkg", "factory_stream", "edges/factory_tb"),
    ("delay", "add", "edge_lane", "edge_pe", "edge_array"),
    valid={name: f"{name}_valid" for name in ("west", "north", "south")}, handshakes=False,
)  # fmt: skip


@dataclass(frozen=True)
class Device:
    """The parameters of the device under test, as `factory_array.sv` documents them."""

    kind: ClassVar[Kind] = ARRAY
    rows: int
    cols: int
    simd: int
    act_bits: int
    act_signed: bool
    weight_bits: int
    psum_bits: int
    acc_bits: int
    saturate: bool
    depth: int

    @property
    def parameters(self) -> dict[str, int]:
        """The parameters by their names in SystemVerilog."""
        return {
            "ROWS": self.rows,
            "COLS": self.cols,
            "SIMD": self.simd,
            "ACT_BITS": self.act_bits,
            "ACT_SIGNED": int(self.act_signed),
            "WEIGHT_BITS": self.weight_bits,
            "PSUM_BITS": self.psum_bits,
            "ACC_BITS": self.acc_bits,
            "SATURATE": int(self.saturate),
            "DEPTH": self.depth,
        }

    @property
    def constants(self) -> tuple[str, ...]:
        """What the testbench's package has beside the parameters."""
        return ()

    def lanes(self, stream: str) -> int:
        """Return how many lanes a word of a stream has at the device's port."""
        return {ACT: self.rows * self.simd, WEIGHT: max(self.rows, self.cols) * self.simd}.get(stream, self.cols)

    def field(self, stream: str, bits: int) -> Field:
        """Return a lane at the port of a stream whose files have lanes of `bits`."""
        fields = {ACT: Field(self.act_bits, self.act_signed), WEIGHT: Field(self.weight_bits, True)}
        return fields.get(stream, Field(bits, True))


@dataclass(frozen=True)
class EdgeDevice:
    """The parameters of a device that its edges drive, as `factory_edge_array.sv` documents them."""

    kind: ClassVar[Kind] = EDGE_ARRAY
    rows: int
    cols: int
    sums_stay: bool
    west: Field
    north: Field
    sum_bits: int
    saturate: bool
    depth: int
    drain: int
    skews: bool
    row0_first: bool
    lane: str

    @property
    def parameters(self) -> dict[str, int]:
        """The parameters by their names in SystemVerilog."""
        return {
            "ROWS": self.rows,
            "COLS": self.cols,
            "OS": int(self.sums_stay),
            "WEST_BITS": self.west.bits,
            "WEST_SIGNED": int(self.west.signed),
            "NORTH_BITS": self.north.bits,
            "NORTH_SIGNED": int(self.north.signed),
            "SUM_BITS": self.sum_bits,
            "SATURATE": int(self.saturate),
            "DEPTH": self.depth,
            "DRAIN": self.drain,
            "SKEW": int(self.skews),
            "ROW0_FIRST": int(self.row0_first),
        }

    @property
    def constants(self) -> tuple[str, ...]:
        """What the testbench's package has beside the parameters: declarations in SystemVerilog."""
        return (f'LANE = "{self.lane}"',)

    def lanes(self, stream: str) -> int:
        """Return how many lanes a word of a stream has at the device's port."""
        return {"west": self.rows, "west_valid": self.rows}.get(stream, self.cols)

    def field(self, stream: str, bits: int) -> Field:
        """Return a lane at the port of a stream whose files have lanes of `bits`."""
        return {"west": self.west, "north": self.north}.get(stream, Field(bits, stream not in self.kind.valid.values()))


@dataclass(frozen=True)
class Stream:
    """One stream's memory and how its lines hold the lanes of a word.

    The memory has `depth` lines of `line_bits`. A word is one or more lines (parts); `lanes[lane]` is `(part, low)`:
    the lane's field is the `field_bits` bits from `low` up, in that part.
    """

    line_bits: int = 1
    field_bits: int = 1
    lanes: tuple[tuple[int, int], ...] = ((0, 0),)
    width: int = 0
    depth: int = 1
    hexadecimal: bool = False
    header_lines: int = 0

    @property
    def parts(self) -> int:
        """Lines of one word."""
        return 1 + max(part for part, _ in self.lanes)


@dataclass(frozen=True)
class Walk:
    """The words of one stream in one job: three nested loops over the lines of its memory, the inner one fastest.

    Word `(i, j, k)`, part `p` is line `base + i * strides[0] + j * strides[1] + k * strides[2] + p * part_stride`;
    `lane` is the lane of the word that is lane 0 of the array.
    """

    counts: tuple[int, int, int] = (0, 0, 0)
    base: int = 0
    strides: tuple[int, int, int] = (0, 0, 0)
    part_stride: int = 0
    lane: int = 0

    @property
    def words(self) -> int:
        """How many words the walk has."""
        return self.counts[0] * self.counts[1] * self.counts[2]

    def line(self, place: int, part: int = 0) -> int:
        """Return the line of the memory that holds a part of the word at a place in the walk's order."""
        rest, line = place, self.base + part * self.part_stride
        for count, stride in zip(reversed(self.counts), reversed(self.strides), strict=True):
            rest, at = divmod(rest, count)
            line += at * stride
        return line

    def numbers(self) -> tuple[int, ...]:
        """Return the nine numbers of the jobs file."""
        return (*self.counts, self.base, *self.strides, self.part_stride, self.lane)


@dataclass(frozen=True)
class Load:
    """The files that fill a stream's memory, one behind the other, `words` memory words each.

    `paths` are relative to the manifest's folder. `files` knows the address of every bit in them, `where` is the layer
    and image.
    """

    stream: str
    paths: tuple[str, ...]
    words: int
    files: FileSet | None = field(default=None, compare=False)
    where: Address | None = None

    def address(self, line: int, bit: int) -> Address | None:
        """Return the address of the value at a line of the memory and a bit of it; None where it stands for nothing."""
        file, word = divmod(line, self.words)
        labels = self.files.placement.address_at(file, word, bit) if self.files else None
        return None if labels is None else replace(self.where, role=self.files.role.name, labels=labels)


@dataclass(frozen=True)
class Job:
    """One output tile.

    `it` is the first input tile, `pt` the pixel tile, where there are such; `mode` is the dataflow's; the rest is what
    the array is told: `kernel`, `stride` and `dilation` are `(y, x)`. A job that `continues` adds to what the job
    before it has accumulated.
    `walks` holds a walk for each stream that is fed or compared; a stream that is not there is not compared.
    """

    layer: str
    image: int
    it: int
    ot: int
    pt: int
    mode: int
    continues: bool
    it_count: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padded_width: int
    out_width: int
    act_count: int
    nij_count: int
    onij_count: int
    post_op: str
    walks: dict[str, Walk] = field(default_factory=dict)

    @property
    def ports(self) -> dict[str, int]:
        """What the array is told, by the ports of `factory_array.sv`."""
        return {
            "job_os": self.mode,
            "job_continue": int(self.continues),
            "job_it_count": self.it_count,
            "job_kernel_y": self.kernel[0],
            "job_kernel_x": self.kernel[1],
            "job_stride_y": self.stride[0],
            "job_stride_x": self.stride[1],
            "job_dilation_y": self.dilation[0],
            "job_dilation_x": self.dilation[1],
            "job_padded_width": self.padded_width,
            "job_out_width": self.out_width,
            "job_act_count": self.act_count,
            "job_nij_count": self.nij_count,
            "job_onij_count": self.onij_count,
            "job_post_op": POST_OPS[self.post_op],
        }

    @property
    def compared(self) -> int:
        """Words that are compared in this job."""
        return sum(self.walks[name].words for name in SINKS if name in self.walks)

    @property
    def head(self) -> str:
        """What the jobs file says of the job before its walks."""
        return " ".join(map(str, ("job", self.layer, self.image, self.it, self.ot, self.pt, *self.ports.values())))


@dataclass(frozen=True)
class EdgeJob:
    """What crosses the edges in passes back to back, from cycle 0 on.

    `where` is its address. `words` are those of a pass from the west, `compared` the values that must leave below; the
    file `path` has them, beginning with line `first` of the stream's memory. The walk of each stream is over cycles.
    """

    where: Address
    words: int
    compared: int
    path: str
    first: int
    walks: dict[str, Walk] = field(default_factory=dict)

    @property
    def layer(self) -> str:
        """The layer's name."""
        return self.where.layer

    @property
    def image(self) -> int | None:
        """The image."""
        return self.where.image

    @property
    def ports(self) -> dict[str, int]:
        """What the device is told, by the ports of `factory_edge_array.sv`."""
        return {"words": self.words}

    @property
    def head(self) -> str:
        """What the jobs file says of the job before its walks: a line with its address, and the rest."""
        return f"at {self.where}\njob {self.path} {self.first} {self.words}"


@dataclass(frozen=True)
class Bench:
    """A whole run: one device, its streams, and the steps in order. `unchecked` are exported roles no step compares."""

    device: Device | EdgeDevice
    streams: dict[str, Stream]
    steps: tuple[Load | Job | EdgeJob, ...]
    unchecked: tuple[str, ...] = ()

    @property
    def jobs(self) -> int:
        """Number of jobs."""
        return sum(not isinstance(step, Load) for step in self.steps)

    @property
    def compared(self) -> int:
        """Words that the run compares."""
        return sum(step.compared for step in self.steps if not isinstance(step, Load))
