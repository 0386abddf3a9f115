// An array without a control of its own: what crosses its edges drives it, a word in every clock, with a valid bit for
// each lane. A device of your own takes its place in the testbench as a module of this name, with these parameters and
// ports.
//
// Before each stream rst is 1 for some clocks. In the clock after, and in each one that follows, a line of west and of
// north is there, and what south holds at the end of the clock is compared with that cycle's line of south where that
// is valid; what leaves elsewhere, such as sums of a column that has no channel, nobody looks at.
//   An operand stays (OS = 0): north loads a column, a word for each row, while its north_valid is 1. A row's words
//     from the west meet it, one column further each clock, and a sum of each word leaves below. An element takes what
//     was loaded last at the first word of a pass, so that a column may load while it works.
//   Sums stay (OS = 1): west and north move on in every clock, to the next column and row. After the last word of a
//     pass a column's sums leave below, the last row first, while the next pass may begin.
module factory_edge_array #(
    parameter int ROWS         = 8,
    parameter int COLS         = 8,
    parameter int OS           = 0,
    parameter int WEST_BITS    = 4,
    parameter int WEST_SIGNED  = 0,   // 1: two's complement
    parameter int NORTH_BITS   = 4,
    parameter int NORTH_SIGNED = 1,
    parameter int SUM_BITS     = 16,
    parameter int SATURATE     = 0,   // 1: adders clamp; 0: they wrap
    parameter int DEPTH        = 1,   // clocks that an element takes for a sum
    parameter int DRAIN        = 1,   // clocks from the last of them until the sum is at the south edge
    parameter int SKEW         = 0,   // 1: all lanes of a word cross in one clock; 0: as the elements need them
    parameter int ROW0_FIRST   = 0    // 1: the first word that is loaded is row 0's; 0: the last row's
) (
    input  logic                       clk,
    input  logic                       rst,
    input  logic [               31:0] words,        // of a pass, from the west; it holds during a stream
    input  logic [           ROWS-1:0] west_valid,
    input  logic [ ROWS*WEST_BITS-1:0] west,         // lane 0 is in the lowest bits
    input  logic [           COLS-1:0] north_valid,
    input  logic [COLS*NORTH_BITS-1:0] north,
    output logic [           COLS-1:0] south_valid,
    output logic [  COLS*SUM_BITS-1:0] south
);
  localparam int W = WEST_BITS + 3;  // what moves: first and last word of a pass, valid, value
  localparam int N = NORTH_BITS + 3;
  localparam int S = SUM_BITS + 1;  // valid, value
  localparam int HELD = (SKEW == 0) ? 0 : 1;  // clocks a lane that skew registers hold a word

  // What enters each row and column, from the west and from above.
  wire [W-1:0] a[0:ROWS-1][0:COLS];
  wire [N-1:0] b[0:ROWS][0:COLS-1];
  wire [S-1:0] sum[0:ROWS][0:COLS-1];
  wire [S-1:0] leaving[0:ROWS-1][0:COLS-1];  // what the sum below will be in the next clock
  wire done[0:ROWS-1][0:COLS-1];

  for (genvar r = 0; r < ROWS; r++) begin : g_west
    factory_edge_lane #(
        .BITS (WEST_BITS),
        .DELAY(HELD * r * ((OS != 0) ? 1 : DEPTH))
    ) lane (
        .clk  (clk),
        .rst  (rst),
        .words(words),
        .valid(west_valid[r]),
        .value(west[r*WEST_BITS+:WEST_BITS]),
        .out  (a[r][0])
    );
  end

  for (genvar c = 0; c < COLS; c++) begin : g_col
    factory_edge_lane #(
        .BITS (NORTH_BITS),
        .DELAY((OS != 0) ? HELD * c : 0)
    ) lane (
        .clk  (clk),
        .rst  (rst),
        .words(words),
        .valid(north_valid[c]),
        .value(north[c*NORTH_BITS+:NORTH_BITS]),
        .out  (b[0][c])
    );
    assign sum[0][c] = '0;

    // The row that the next word is for, where row 0 is loaded first: each column counts the words of a load.
    logic [31:0] loads;
    always_ff @(posedge clk)
      if (rst || !north_valid[c] || loads == ROWS - 1) loads <= '0;
      else loads <= loads + 1;

    // OS: row r hands on what it holds in the r clocks after the last row's sum is done.
    logic [ROWS-1:0] since;
    always_ff @(posedge clk)
      if (rst) since <= '0;
      else since <= ROWS'({since, done[ROWS-1][c]});

    for (genvar r = 0; r < ROWS; r++) begin : g_row
      logic load, shift;
      assign load = north_valid[c] && (ROW0_FIRST == 0 || loads == r);
      assign shift = since << (ROWS - r) != '0;
      factory_edge_pe #(
          .TOP         ((r == 0) ? 1 : 0),
          .OS          (OS),
          .WEST_BITS   (WEST_BITS),
          .WEST_SIGNED (WEST_SIGNED),
          .NORTH_BITS  (NORTH_BITS),
          .NORTH_SIGNED(NORTH_SIGNED),
          .SUM_BITS    (SUM_BITS),
          .SATURATE    (SATURATE),
          .DEPTH       (DEPTH)
      ) pe (
          .clk(clk),
          .rst(rst),
          .a_in(a[r][c]),
          .a_out(a[r][c+1]),
          .load(load),
          .b_in((OS == 0 && ROW0_FIRST != 0) ? b[0][c] : b[r][c]),
          .b_out(b[r+1][c]),
          .shift(shift),
          .above(sum[r][c]),
          .next(leaving[r][c]),
          .below(sum[r+1][c]),
          .done(done[r][c])
      );
    end

    factory_delay #(
        .BITS (S),
        .DEPTH(DRAIN + HELD * (COLS - 1 - c))
    ) drain (
        .clk(clk),
        .rst(rst),
        .enable(1'b1),
        .in(leaving[ROWS-1][c]),
        .out({south_valid[c], south[c*SUM_BITS+:SUM_BITS]})
    );
  end
endmodule
