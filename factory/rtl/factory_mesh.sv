// The rows and cols of processing elements, with the skew registers around them.
//
// A word that enters at clock t meets row r and col c at clock t + r + c: row r's activation waits r clocks, and in
// output-stationary mode col c's weight waits c clocks. Weight-stationary, col c's psum leaves the last row at
// t + ROWS + c and waits COLS - 1 - c clocks, so that a whole psum word leaves ROWS + COLS - 1 clocks after its
// activation word entered.
module factory_mesh #(
    parameter int ROWS        = 8,
    parameter int COLS        = 8,
    parameter int SIMD        = 1,
    parameter int ACT_BITS    = 4,
    parameter int ACT_SIGNED  = 0,
    parameter int WEIGHT_BITS = 4,
    parameter int PSUM_BITS   = 16,
    parameter int SATURATE    = 0,
    parameter int LANES       = (ROWS > COLS) ? ROWS : COLS
) (
    input  logic                              clk,
    input  logic                              rst,
    input  logic                              enable,
    input  logic                              os,
    input  logic                              clear,
    input  logic [                  COLS-1:0] load,      // WS: the col that takes the weight word
    input  logic [                      15:0] row,       // OS: the row whose psums are read
    input  logic [    ROWS*SIMD*ACT_BITS-1:0] act,
    input  logic [LANES*SIMD*WEIGHT_BITS-1:0] weight,    // WS: a lane for each row; OS: a lane for each col
    output logic [        COLS*PSUM_BITS-1:0] psum_ws,
    output logic [        COLS*PSUM_BITS-1:0] psum_os
);
  localparam int A = SIMD * ACT_BITS;
  localparam int W = SIMD * WEIGHT_BITS;

  // What passes between neighbours: [row][col] is what enters that row and col, from the left or from above.
  wire [A-1:0] act_at[0:ROWS-1][0:COLS];
  wire [W-1:0] weight_at[0:ROWS][0:COLS-1];
  wire [PSUM_BITS-1:0] psum_at[0:ROWS][0:COLS-1];

  for (genvar r = 0; r < ROWS; r++) begin : g_row
    factory_delay #(
        .BITS (A),
        .DEPTH(r)
    ) skew (
        .clk(clk),
        .rst(rst),
        .enable(enable),
        .in(act[r*A+:A]),
        .out(act_at[r][0])
    );
    for (genvar c = 0; c < COLS; c++) begin : g_col
      factory_pe #(
          .SIMD(SIMD),
          .ACT_BITS(ACT_BITS),
          .ACT_SIGNED(ACT_SIGNED),
          .WEIGHT_BITS(WEIGHT_BITS),
          .PSUM_BITS(PSUM_BITS),
          .SATURATE(SATURATE)
      ) pe (
          .clk(clk),
          .rst(rst),
          .enable(enable),
          .os(os),
          .load(load[c]),
          .clear(clear),
          .act_in(act_at[r][c]),
          .act_out(act_at[r][c+1]),
          .weight_in(os ? weight_at[r][c] : weight[r*W+:W]),
          .weight_out(weight_at[r+1][c]),
          .psum_in(psum_at[r][c]),
          .psum_out(psum_at[r+1][c])
      );
    end
  end

  for (genvar c = 0; c < COLS; c++) begin : g_edge
    factory_delay #(
        .BITS (W),
        .DEPTH(c)
    ) skew (
        .clk(clk),
        .rst(rst),
        .enable(enable),
        .in(weight[c*W+:W]),
        .out(weight_at[0][c])
    );
    assign psum_at[0][c] = '0;
    factory_delay #(
        .BITS (PSUM_BITS),
        .DEPTH(COLS - 1 - c)
    ) deskew (
        .clk(clk),
        .rst(rst),
        .enable(enable),
        .in(psum_at[ROWS][c]),
        .out(psum_ws[c*PSUM_BITS+:PSUM_BITS])
    );
    assign psum_os[c*PSUM_BITS+:PSUM_BITS] = psum_at[32'(row)+1][c];
  end
endmodule
