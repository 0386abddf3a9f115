"""What a diagnosis must name for each wrong array, in the dataflows in which its words differ."""

from mutants.array import MUTANTS

NOT_NAMED = ()
"""An honest "unknown"."""
CAUSES = {
    ("a weight's sign is lost", "ws"): ("wrong sign of codes",),
    ("a weight's sign is lost", "os"): ("wrong sign of codes",),
    ("a product is subtracted", "ws"): ("products subtracted",),
    ("a product is subtracted", "os"): ("products subtracted",),
    ("an activation's top bit is a sign", "ws"): ("wrong sign of codes",),
    ("a signed activation is taken as unsigned", "os"): ("wrong sign of codes",),
    ("only the first SIMD lane counts", "ws"): ("products missing",),
    ("a carry is dropped", "ws"): ("carry lost",),
    ("a carry is dropped", "os"): ("carry lost",),
    ("sums saturate where they must wrap", "ws"): ("adder overflows the wrong way",),
    ("sums wrap where they must saturate", "ws"): ("adder overflows the wrong way",),
    ("the clamp has the wrong sign", "ws"): ("adder overflows the wrong way",),
    ("a psum bit is stuck", "ws"): ("stuck bit inside the sums",),
    ("a psum bit is stuck", "os"): ("stuck bit inside the sums",),
    ("a weight bit is stuck", "ws"): ("stuck bit of codes",),
    ("a weight bit is stuck", "os"): ("stuck bit of codes",),
    ("the accumulator is not cleared", "ws"): ("accumulator not cleared",),
    ("the accumulator is not cleared", "os"): ("accumulator not cleared",),
    ("the accumulator is cleared by each it", "ws"): ("accumulator cleared inside a sum",),
    ("a job does not continue the one before", "ws"): ("accumulator cleared inside a sum",),
    ("a tile's psums are not cleared", "os"): ("accumulator not cleared",),
    ("kij is off by one", "ws"): ("window moved",),
    ("kij is off by one", "os"): ("words late",),
    ("ki and kj are swapped", "ws"): ("kernel positions reordered",),
    ("the stride is ignored along x", "ws"): ("window moved",),
    ("the stride is ignored along y", "ws"): ("window moved",),
    ("the stride along x is that along y", "ws"): ("window moved",),
    ("the stride along y is that along x", "ws"): ("window moved",),
    ("the dilation is ignored along x", "ws"): ("window moved",),
    ("the dilation is ignored along y", "ws"): ("window moved",),
    ("the kernel is as wide as it is high", "ws"): ("kernel of another size",),
    ("the kernel is as high as it is wide", "ws"): NOT_NAMED,
    ("lanes are reversed", "ws"): ("lanes reversed",),
    ("output rows are off by one", "os"): ("words late",),
    ("a row is not skewed", "ws"): ("missing skew",),
    ("a row is not skewed", "os"): ("missing skew",),
    ("a col is not skewed", "os"): ("missing skew",),
    ("ReLU is missing", "ws"): ("another post-op",),
    ("ReLU is missing", "os"): ("another post-op",),
    ("leaky shifts zeros in", "ws"): ("another post-op",),
    ("leaky shifts zeros in", "os"): ("another post-op",),
    ("the accumulation is one it short", "ws"): ("a pass missing or doubled",),
    ("the last pixel is not accumulated", "ws"): ("words never written",),
    ("the last pixel is not accumulated", "os"): ("words never written",),
    ("weights are loaded a clock late", "ws"): ("lanes shifted",),
    ("the mesh moves while a psum waits", "ws"): ("words lost or taken twice",),
    ("an activation is taken while the mesh waits", "ws"): ("words lost or taken twice",),
    ("an activation does not wait for its weight", "os"): NOT_NAMED,
    ("an output does not wait to be taken", "ws"): ("words lost or taken twice",),
    ("an output does not wait to be taken", "os"): NOT_NAMED,
}
"""By mutant and dataflow: the hypotheses of which one must be named first, or predict the same bits as the first."""

CORNER_CAUSES = {mutant.what: CAUSES[mutant.what, "os" if mutant.case == "os" else "ws"] for mutant in MUTANTS}
"""The same, by mutant, in the dataflow of its corner case."""
