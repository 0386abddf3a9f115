// The special-function unit: accumulates psums over it and kij, one accumulator word for each onij, then ReLU.
//
// A pass is the psums of one it and kij, nij ascending. Output pixel (oi, oj) reads nij = (oi * stride_y + ki *
// dilation_y) * padded_width + oj * stride_x + kj * dilation_x, which ascends with onij: the unit waits for the nij of
// the next onij.
module factory_sfu #(
    parameter int COLS      = 8,
    parameter int PSUM_BITS = 16,
    parameter int ACC_BITS  = 16,
    parameter int SATURATE  = 0,
    parameter int DEPTH     = 1024  // the most onij
) (
    input  logic                      clk,
    input  logic                      restart,       // before a pass: first_nij is the nij of onij 0
    input  logic                      first,         // the pass is the first of its job: forget what was accumulated
    input  logic [              15:0] first_nij,
    input  logic [              15:0] stride_y,
    input  logic [              15:0] stride_x,
    input  logic [              15:0] padded_width,
    input  logic [              15:0] out_width,
    input  logic [              15:0] onij_count,
    input  logic                      psum_valid,
    input  logic [              15:0] nij,
    input  logic [COLS*PSUM_BITS-1:0] psum,
    input  logic [               1:0] post_op,       // 0 none, 1 ReLU, 2 leaky: x < 0 ? x >>> 6 : x
    input  logic [              15:0] read_onij,
    output logic [ COLS*ACC_BITS-1:0] acc,           // before the post-op
    output logic [ COLS*ACC_BITS-1:0] out
);
  localparam int INDEX = (DEPTH > 1) ? $clog2(DEPTH) : 1;

  logic [COLS*ACC_BITS-1:0] memory[0:DEPTH-1];
  logic [COLS*ACC_BITS-1:0] was, sum;
  logic [15:0] onij, oj, next_nij, line_nij;

  assign was = first ? '0 : memory[INDEX'(onij)];
  assign acc = (read_onij < onij_count) ? memory[INDEX'(read_onij)] : '0;

  for (genvar c = 0; c < COLS; c++) begin : g_col
    factory_add #(
        .A_BITS  (ACC_BITS),
        .B_BITS  (PSUM_BITS),
        .OUT_BITS(ACC_BITS),
        .SATURATE(SATURATE)
    ) add (
        .a  (was[c*ACC_BITS+:ACC_BITS]),
        .b  (psum[c*PSUM_BITS+:PSUM_BITS]),
        .sum(sum[c*ACC_BITS+:ACC_BITS])
    );
    logic signed [ACC_BITS-1:0] lane, leaky;
    assign lane = acc[c*ACC_BITS+:ACC_BITS];
    assign leaky = lane >>> 6;
    assign out[c*ACC_BITS+:ACC_BITS] = (lane >= 0 || post_op == 0) ? lane : (post_op == 2) ? leaky : '0;
  end

  always_ff @(posedge clk)
    if (restart) begin
      onij     <= '0;
      oj       <= '0;
      next_nij <= first_nij;
      line_nij <= first_nij;
    end else if (psum_valid && nij == next_nij && onij != onij_count) begin
      memory[INDEX'(onij)] <= sum;
      onij <= onij + 1;
      if (oj == out_width - 1) begin
        oj       <= '0;
        next_nij <= line_nij + stride_y * padded_width;
        line_nij <= line_nij + stride_y * padded_width;
      end else begin
        oj       <= oj + 1;
        next_nij <= next_nij + stride_x;
      end
    end
endmodule
