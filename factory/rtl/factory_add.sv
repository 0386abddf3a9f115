// A signed adder whose sum is OUT_BITS wide: SATURATE 1 clamps a sum that does not fit, 0 keeps its low bits.
module factory_add #(
    parameter int A_BITS   = 16,
    parameter int B_BITS   = 16,
    parameter int OUT_BITS = 16,
    parameter int SATURATE = 0
) (
    input  logic [  A_BITS-1:0] a,
    input  logic [  B_BITS-1:0] b,
    output logic [OUT_BITS-1:0] sum
);
  localparam int WIDE = ((A_BITS > B_BITS) ? A_BITS : B_BITS) + 1;
  localparam int BITS = (WIDE > OUT_BITS) ? WIDE : OUT_BITS + 1;

  logic [BITS-1:0] wide_a, wide_b;
  assign wide_a = {{(BITS - A_BITS) {a[A_BITS-1]}}, a};
  assign wide_b = {{(BITS - B_BITS) {b[B_BITS-1]}}, b};

  if (SATURATE == 0) begin : g_wrap
    assign sum = OUT_BITS'(wide_a + wide_b);
  end else begin : g_saturate
    // The sum fits where every bit above the result's sign bit repeats it.
    logic [BITS-1:0] exact;
    logic fits;
    assign exact = wide_a + wide_b;
    assign fits = (&exact[BITS-1:OUT_BITS-1]) || !(|exact[BITS-1:OUT_BITS-1]);
    assign sum = fits ? exact[OUT_BITS-1:0] : {exact[BITS-1], {(OUT_BITS - 1) {!exact[BITS-1]}}};
  end
endmodule
