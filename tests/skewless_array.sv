// An array without skew registers or a control of its own: what crosses its edges drives it, with valid bits alone.
//
// OS 0, an operand stays: a column takes what comes from above while its north_valid is 1, one row further each clock;
// a sum of each word from the west leaves below. OS 1, sums stay: an element begins a sum with the first valid word from
// above after an invalid one; when the last row's word has passed, the sums of the column leave below, last row first.
module skewless_array #(
    parameter int ROWS       = 4,
    parameter int COLS       = 4,
    parameter int OS         = 0,
    parameter int WEST_BITS  = 9,  // all values are two's complement
    parameter int NORTH_BITS = 9,
    parameter int SUM_BITS   = 16
) (
    input  logic                       clk,
    input  logic                       rst,
    input  logic [           ROWS-1:0] west_valid,
    input  logic [ ROWS*WEST_BITS-1:0] west,
    input  logic [           COLS-1:0] north_valid,
    input  logic [COLS*NORTH_BITS-1:0] north,
    output logic [           COLS-1:0] south_valid,
    output logic [  COLS*SUM_BITS-1:0] south
);
  // What enters row r and column c, from the west and from above.
  wire [WEST_BITS-1:0] a[ROWS][COLS+1];
  wire a_valid[ROWS][COLS+1];
  wire [NORTH_BITS-1:0] b[ROWS+1][COLS];
  wire b_valid[ROWS+1][COLS];
  wire [SUM_BITS-1:0] sum[ROWS+1][COLS];
  wire sum_valid[ROWS+1][COLS];
  wire leave[COLS];

  for (genvar r = 0; r < ROWS; r++) begin : g_row
    assign a[r][0] = west[r*WEST_BITS+:WEST_BITS];
    assign a_valid[r][0] = west_valid[r];
    for (genvar c = 0; c < COLS; c++) begin : g_col
      logic [WEST_BITS-1:0] a_held;
      logic [NORTH_BITS-1:0] b_held;
      logic [SUM_BITS-1:0] sum_held, addend, product;
      logic a_valid_held, b_valid_held, sum_valid_held;
      logic [NORTH_BITS-1:0] factor;
      assign factor = (OS != 0) ? b[r][c] : b_held;
      assign product = a_valid[r][c] ? SUM_BITS'($signed(a[r][c]) * $signed(factor)) : '0;
      assign addend = (OS == 0) ? sum[r][c] : b_valid_held ? sum_held : '0;
      always_ff @(posedge clk)
        if (rst) {a_held, b_held, sum_held, a_valid_held, b_valid_held, sum_valid_held} <= '0;
        else begin
          {a_held, a_valid_held, b_valid_held} <= {a[r][c], a_valid[r][c], b_valid[r][c]};
          if (OS != 0 || north_valid[c]) b_held <= b[r][c];
          sum_valid_held <= (r == 0) ? a_valid[r][c] : sum_valid[r][c];
          if (OS == 0 || b_valid[r][c]) sum_held <= addend + product;
          else if (leave[c]) sum_held <= sum[r][c];
        end
      assign a[r][c+1] = a_held;
      assign a_valid[r][c+1] = a_valid_held;
      assign b[r+1][c] = b_held;
      assign b_valid[r+1][c] = b_valid_held;
      assign sum[r+1][c] = sum_held;
      assign sum_valid[r+1][c] = sum_valid_held;
    end
  end

  for (genvar c = 0; c < COLS; c++) begin : g_edge
    logic [15:0] left;  // sums that are still to leave
    assign b[0][c] = north[c*NORTH_BITS+:NORTH_BITS];
    assign b_valid[0][c] = north_valid[c];
    assign sum[0][c] = '0;
    assign sum_valid[0][c] = 1'b0;
    assign leave[c] = (b_valid[ROWS][c] && !b_valid[ROWS-1][c]) || left != 0;
    always_ff @(posedge clk)
      if (rst || !leave[c]) left <= '0;
      else left <= (left == 0) ? 16'(ROWS - 1) : left - 1;
    assign south_valid[c] = (OS != 0) ? leave[c] : sum_valid[ROWS][c];
    assign south[c*SUM_BITS+:SUM_BITS] = sum[ROWS][c];
  end
endmodule
