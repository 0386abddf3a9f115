// A processing element: SIMD products of an activation and a weight, added to a psum one after the other.
//
// Weight-stationary (os = 0): the weight stays once loaded; the psum from the row above moves down, one row a clock.
// Output-stationary (os = 1): the weight from the row above moves down; the psum stays.
// Either way the activation moves to the next col, one col a clock.
module factory_pe #(
    parameter int SIMD        = 1,
    parameter int ACT_BITS    = 4,
    parameter int ACT_SIGNED  = 0,
    parameter int WEIGHT_BITS = 4,
    parameter int PSUM_BITS   = 16,
    parameter int SATURATE    = 0
) (
    input  logic                        clk,
    input  logic                        rst,
    input  logic                        enable,
    input  logic                        os,
    input  logic                        load,        // WS: take weight_in and keep it
    input  logic                        clear,       // OS: begin a tile
    input  logic [   SIMD*ACT_BITS-1:0] act_in,
    output logic [   SIMD*ACT_BITS-1:0] act_out,
    input  logic [SIMD*WEIGHT_BITS-1:0] weight_in,
    output logic [SIMD*WEIGHT_BITS-1:0] weight_out,
    input  logic [       PSUM_BITS-1:0] psum_in,
    output logic [       PSUM_BITS-1:0] psum_out
);
  // An unsigned activation gets a 0 in front; a product has the bits of both of its factors.
  localparam int PRODUCT_BITS = ACT_BITS + 1 + WEIGHT_BITS;

  logic [SIMD*WEIGHT_BITS-1:0] weight;
  logic [PSUM_BITS-1:0] psum;
  assign weight = os ? weight_in : weight_out;
  assign psum = os ? psum_out : psum_in;

  for (genvar i = 0; i < SIMD; i++) begin : g_lane
    logic signed [ACT_BITS:0] a;
    logic signed [WEIGHT_BITS-1:0] w;
    logic signed [PRODUCT_BITS-1:0] product;
    logic [PSUM_BITS-1:0] before_lane, sum;
    assign a = {(ACT_SIGNED != 0) && act_in[(i+1)*ACT_BITS-1], act_in[i*ACT_BITS+:ACT_BITS]};
    assign w = weight[i*WEIGHT_BITS+:WEIGHT_BITS];
    assign product = PRODUCT_BITS'(a) * PRODUCT_BITS'(w);
    if (i == 0) assign before_lane = psum;
    else assign before_lane = g_lane[i-1].sum;
    factory_add #(
        .A_BITS  (PSUM_BITS),
        .B_BITS  (PRODUCT_BITS),
        .OUT_BITS(PSUM_BITS),
        .SATURATE(SATURATE)
    ) add (
        .a  (before_lane),
        .b  (product),
        .sum(sum)
    );
  end

  always_ff @(posedge clk)
    if (rst) begin
      act_out    <= '0;
      weight_out <= '0;
      psum_out   <= '0;
    end else begin
      if (enable) act_out <= act_in;
      if (os ? enable : load) weight_out <= weight_in;
      if (os && clear) psum_out <= '0;
      else if (enable) psum_out <= g_lane[SIMD-1].sum;
    end
endmodule
