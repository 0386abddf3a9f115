"""Wrong arrays: each is one substitution in one source of the reference array."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """`old` stands once in `factory_{file}.sv`; `case` names the vectors that must catch it."""

    what: str
    file: str
    old: str
    new: str
    case: str = "ws"


MUTANTS = (
    Mutant("a weight's sign is lost", "pe", "logic signed [WEIGHT_BITS-1:0] w;", "logic [WEIGHT_BITS-1:0] w;"),
    Mutant("a product is subtracted", "pe", "assign product = ", "assign product = -"),
    Mutant("an activation's top bit is a sign", "pe", "(ACT_SIGNED != 0) && act_in", "act_in"),
    Mutant("a signed activation is taken as unsigned", "pe", "(ACT_SIGNED != 0) && act_in", "1'b0 && act_in", "os"),
    Mutant("only the first SIMD lane counts", "pe", "g_lane[SIMD-1].sum", "g_lane[0].sum", "simd"),
    Mutant(
        "a carry is dropped",
        "add",
        "OUT_BITS'(wide_a + wide_b)",
        "OUT_BITS'({wide_a[BITS-1:4] + wide_b[BITS-1:4], wide_a[3:0] + wide_b[3:0]})",
    ),
    Mutant("sums saturate where they must wrap", "add", "if (SATURATE == 0)", "if (SATURATE != 0)"),
    Mutant("sums wrap where they must saturate", "add", "if (SATURATE == 0)", "if (SATURATE >= 0)", "saturate"),
    Mutant("the clamp has the wrong sign", "add", "{exact[BITS-1], {", "{!exact[BITS-1], {", "saturate"),
    Mutant("a psum bit is stuck", "pe", "g_lane[SIMD-1].sum;", "g_lane[SIMD-1].sum | 4;"),
    Mutant("a weight bit is stuck", "pe", "weight_out <= weight_in;", "weight_out <= weight_in & ~8;"),
    Mutant("the accumulator is not cleared", "sfu", "first ? '0 : memory", "memory"),
    Mutant("the accumulator is cleared by each it", "array", "!job_continue && it == 0 &&", "!job_continue &&"),
    Mutant("a job does not continue the one before", "array", "!job_continue && it == 0", "it == 0", "partial"),
    Mutant("a tile's psums are not cleared", "pe", "if (os && clear) psum_out", "if (rst) psum_out", "os"),
    Mutant("kij is off by one", "array", "kj * job_dilation_x)", "kj * job_dilation_x + 1)"),
    Mutant(
        "ki and kj are swapped",
        "array",
        "(ki * job_dilation_y * job_padded_width + kj * job_dilation_x)",
        "(kj * job_dilation_x * job_padded_width + ki * job_dilation_y)",
    ),
    Mutant("the stride is ignored along x", "sfu", "next_nij + stride_x;", "next_nij + 1;", "stride"),
    Mutant(
        "the stride is ignored along y", "sfu", "next_nij <= line_nij + stride_y *", "next_nij <= line_nij +", "stride"
    ),
    Mutant(
        "the stride along x is that along y", "array", ".stride_x(job_stride_x)", ".stride_x(job_stride_y)", "by axis"
    ),
    Mutant(
        "the stride along y is that along x", "array", ".stride_y(job_stride_y)", ".stride_y(job_stride_x)", "by axis"
    ),
    Mutant("the dilation is ignored along x", "array", "kj * job_dilation_x", "kj", "by axis"),
    Mutant("the dilation is ignored along y", "array", "ki * job_dilation_y *", "ki *", "by axis"),
    Mutant(
        "the kernel is as wide as it is high", "array", "kj == job_kernel_x - 1", "kj == job_kernel_y - 1", "by axis"
    ),
    Mutant(
        "the kernel is as high as it is wide", "array", "ki == job_kernel_y - 1", "ki == job_kernel_x - 1", "by axis"
    ),
    Mutant("lanes are reversed", "mesh", "psum_ws[c*PSUM_BITS", "psum_ws[(COLS-1-c)*PSUM_BITS"),
    Mutant("output rows are off by one", "mesh", "32'(row)+1][c]", "32'(row)][c]", "os"),
    Mutant("a row is not skewed", "mesh", ".DEPTH(r)", ".DEPTH(r == 1 ? 0 : r)"),
    Mutant("a col is not skewed", "mesh", ".DEPTH(c)", ".DEPTH(c == 2 ? 1 : c)", "os"),
    Mutant("ReLU is missing", "sfu", "lane >= 0 ||", "1'b1 ||"),
    Mutant("leaky shifts zeros in", "sfu", "lane >>> 6", "lane >> 6", "stride"),
    Mutant("the accumulation is one it short", "array", "it == job_it_count - 1", "it == job_it_count - 2"),
    Mutant("the last pixel is not accumulated", "sfu", "onij != onij_count)", "onij != onij_count - 1)"),
    Mutant(
        "weights are loaded a clock late",
        "array",
        "assign load = (state == LOAD",
        "always_ff @(posedge clk) load <= (state == LOAD",
    ),
    Mutant(
        "the mesh moves while a psum waits",
        "array",
        "assign enable = !psum_valid || psum_ready",
        "assign enable = 1'b1",
    ),
    Mutant("an activation is taken while the mesh waits", "array", "job_act_count && enable", "job_act_count"),
    Mutant("an activation does not wait for its weight", "array", "(!job_os || weight_valid)", "1'b1", "os"),
    Mutant("an output does not wait to be taken", "array", "if (out_ready) onij", "onij"),
)

STALLED = {
    "the mesh moves while a psum waits",
    "an activation is taken while the mesh waits",
    "an activation does not wait for its weight",
    "an output does not wait to be taken",
}
"""Those that need stalls to show."""
