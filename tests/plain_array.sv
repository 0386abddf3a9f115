// Another device with the documented ports: no mesh, one psum word a clock, weight-stationary only.
module factory_array #(
    parameter int ROWS        = 8,
    parameter int COLS        = 8,
    parameter int SIMD        = 1,
    parameter int ACT_BITS    = 4,
    parameter int ACT_SIGNED  = 0,
    parameter int WEIGHT_BITS = 4,
    parameter int PSUM_BITS   = 16,
    parameter int ACC_BITS    = 16,
    parameter int SATURATE    = 0,
    parameter int DEPTH       = 1024,
    parameter int LANES       = (ROWS > COLS) ? ROWS : COLS
) (
    input  logic                              clk,
    input  logic                              rst,
    input  logic                              job_valid,
    output logic                              job_ready,
    input  logic                              job_os,
    input  logic                              job_continue,
    input  logic [                      15:0] job_it_count,
    input  logic [                      15:0] job_kernel_y,
    input  logic [                      15:0] job_kernel_x,
    input  logic [                      15:0] job_stride_y,
    input  logic [                      15:0] job_stride_x,
    input  logic [                      15:0] job_dilation_y,
    input  logic [                      15:0] job_dilation_x,
    input  logic [                      15:0] job_padded_width,
    input  logic [                      15:0] job_out_width,
    input  logic [                      15:0] job_act_count,
    input  logic [                      15:0] job_nij_count,
    input  logic [                      15:0] job_onij_count,
    input  logic [                       1:0] job_post_op,
    input  logic                              act_valid,
    output logic                              act_ready,
    input  logic [    ROWS*SIMD*ACT_BITS-1:0] act,
    input  logic                              weight_valid,
    output logic                              weight_ready,
    input  logic [LANES*SIMD*WEIGHT_BITS-1:0] weight,
    output logic                              psum_valid,
    input  logic                              psum_ready,
    output logic [        COLS*PSUM_BITS-1:0] psum,
    output logic                              out_valid,
    input  logic                              out_ready,
    output logic [         COLS*ACC_BITS-1:0] acc,
    output logic [         COLS*ACC_BITS-1:0] out
);
  localparam int CHANNELS = ROWS * SIMD;
  int weights[0:COLS*CHANNELS-1];
  logic signed [31:0] sums[0:DEPTH*COLS-1];
  int col, sent, kij, it, onij, oi, oj, total;
  logic busy, draining;

  assign job_ready = !busy;
  assign weight_ready = busy && !draining && !psum_valid && col < COLS;
  assign act_ready = busy && !draining && !psum_valid && col == COLS;
  assign out_valid = draining;
  for (genvar c = 0; c < COLS; c++) begin : g_col
    logic signed [31:0] sum;
    assign sum = sums[onij*COLS+c];
    assign acc[c*ACC_BITS+:ACC_BITS] = ACC_BITS'(sum);
    assign out[c*ACC_BITS+:ACC_BITS] = (job_post_op == 1 && sum < 0) ? '0 : ACC_BITS'(sum);
  end

  logic pass_end, last_kij;
  assign pass_end = psum_valid && psum_ready && sent == job_nij_count;
  assign last_kij = kij == job_kernel_y * job_kernel_x - 1;

  // The output pixel that a padded pixel is read for, before the stride.
  int y, x;
  assign y = sent / job_padded_width - kij / job_kernel_x * job_dilation_y;
  assign x = sent % job_padded_width - kij % job_kernel_x * job_dilation_x;

  always @(posedge clk)
    if (rst) begin
      {busy, draining, psum_valid} <= '0;
    end else if (!busy) begin
      {col, sent, kij, it, onij} <= '0;
      busy <= job_valid;
      if (job_valid && !job_continue) for (int i = 0; i < DEPTH * COLS; i++) sums[i] <= 0;
    end else if (draining) begin
      if (out_ready) onij <= onij + 1;
      if (out_ready && onij == job_onij_count - 1) {busy, draining} <= '0;
    end else if (pass_end) begin
      {psum_valid, col, sent} <= '0;
      kij <= last_kij ? 0 : kij + 1;
      if (last_kij) it <= it + 1;
      draining <= last_kij && it == job_it_count - 1;
    end else if (psum_valid) begin
      psum_valid <= !psum_ready;
    end else if (weight_valid && weight_ready) begin
      for (int i = 0; i < CHANNELS; i++) weights[col*CHANNELS+i] <= $signed(weight[i*WEIGHT_BITS+:WEIGHT_BITS]);
      col <= col + 1;
    end else if (act_valid && act_ready) begin
      oi = y / job_stride_y;
      oj = x / job_stride_x;
      for (int c = 0; c < COLS; c++) begin
        total = 0;
        for (int i = 0; i < CHANNELS; i++) total = total + weights[c*CHANNELS+i] * act[i*ACT_BITS+:ACT_BITS];
        psum[c*PSUM_BITS+:PSUM_BITS] <= PSUM_BITS'(total);
        if (y >= 0 && x >= 0 && oi * job_stride_y == y && oj * job_stride_x == x && oj < job_out_width &&
            oi * job_out_width < job_onij_count)
          sums[(oi*job_out_width+oj)*COLS+c] <= sums[(oi*job_out_width+oj)*COLS+c] + total;
      end
      psum_valid <= 1;
      sent <= sent + 1;
    end
endmodule
