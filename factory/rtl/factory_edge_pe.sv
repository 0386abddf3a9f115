// A processing element of an array that its edges drive: a product of what comes from the west and from above, or of
// what came from above before (OS = 0), added to a sum DEPTH clocks later.
module factory_edge_pe #(
    parameter int TOP          = 1,  // 1: row 0, where a sum begins
    parameter int OS           = 0,
    parameter int WEST_BITS    = 4,
    parameter int WEST_SIGNED  = 0,
    parameter int NORTH_BITS   = 4,
    parameter int NORTH_SIGNED = 1,
    parameter int SUM_BITS     = 16,
    parameter int SATURATE     = 0,
    parameter int DEPTH        = 1
) (
    input  logic                  clk,
    input  logic                  rst,
    input  logic [ WEST_BITS+2:0] a_in,   // first and last word of a pass, valid, value
    output logic [ WEST_BITS+2:0] a_out,
    input  logic                  load,   // OS = 0: take what comes from above
    input  logic [NORTH_BITS+2:0] b_in,
    output logic [NORTH_BITS+2:0] b_out,
    input  logic                  shift,  // OS = 1: take the sum of the row above
    input  logic [    SUM_BITS:0] above,  // valid, value
    output logic [    SUM_BITS:0] next,   // what `below` will be
    output logic [    SUM_BITS:0] below,
    output logic                  done    // OS = 1: this clock ends a sum
);
  localparam int PRODUCT_BITS = WEST_BITS + NORTH_BITS + 2;  // an unsigned factor gets a 0 in front

  logic a_first, a_last, a_valid, b_first, b_last, b_valid;
  logic [WEST_BITS-1:0] a;
  logic [NORTH_BITS-1:0] b, held, factor;
  assign {a_first, a_last, a_valid, a} = a_in;
  assign {b_first, b_last, b_valid, b} = b_in;
  logic unused;
  assign unused = a_last;
  assign factor = (OS != 0) ? b : a_first ? b_out[NORTH_BITS-1:0] : held;

  logic signed [WEST_BITS:0] wide_a;
  logic signed [NORTH_BITS:0] wide_b;
  logic [PRODUCT_BITS-1:0] product, late_product;
  assign wide_a = {(WEST_SIGNED != 0) && a[WEST_BITS-1], a};
  assign wide_b = {(NORTH_SIGNED != 0) && factor[NORTH_BITS-1], factor};
  assign product = a_valid ? PRODUCT_BITS'(wide_a) * PRODUCT_BITS'(wide_b) : '0;

  // A sum's clocks but for the last: the product and what it is added to wait.
  logic first, last, valid;
  logic [SUM_BITS:0] from, late_from;
  assign from = (OS != 0) ? '0 : (TOP != 0) ? {a_valid, SUM_BITS'(0)} : above;
  factory_delay #(
      .BITS (PRODUCT_BITS + SUM_BITS + 4),
      .DEPTH(DEPTH - 1)
  ) wait_line (
      .clk(clk),
      .rst(rst),
      .enable(1'b1),
      .in({product, from, b_first, b_last, b_valid}),
      .out({late_product, late_from, first, last, valid})
  );

  logic [SUM_BITS-1:0] total, addend, sum;
  assign addend = (OS == 0) ? late_from[SUM_BITS-1:0] : first ? '0 : total;
  factory_add #(
      .A_BITS  (SUM_BITS),
      .B_BITS  (PRODUCT_BITS),
      .OUT_BITS(SUM_BITS),
      .SATURATE(SATURATE)
  ) add (
      .a  (addend),
      .b  (late_product),
      .sum(sum)
  );

  assign done = (OS != 0) && valid && last;
  logic [SUM_BITS-1:0] kept;  // OS = 1: what leaves, while the next sum is made
  assign kept = done ? sum : shift ? above[SUM_BITS-1:0] : below[SUM_BITS-1:0];
  assign next = (OS == 0) ? {late_from[SUM_BITS], sum} : {done || shift, kept};

  always_ff @(posedge clk)
    if (rst) {a_out, b_out, held, total, below} <= '0;
    else begin
      a_out <= a_in;
      if (OS != 0 || load) b_out <= b_in;
      if (a_valid && a_first) held <= b_out[NORTH_BITS-1:0];
      if (valid) total <= sum;
      below <= next;
    end
endmodule
