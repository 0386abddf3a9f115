// A stream of words that must come out of the device: compares each one that is taken, lane by lane, and counts them.
// The testbench reads `stream`, `wrong`, `must`, `have` and `compared` by their hierarchical names.
module factory_sink
  import factory_stream_pkg::*;
#(
    parameter int LINE_BITS    = 128,
    parameter int PARTS        = 1,
    parameter int DEPTH        = 1,
    parameter int HEX          = 0,
    parameter int HEADER_LINES = 0,
    parameter int COLS         = 8,
    parameter int WORD_BITS    = 128,  // the lanes of the file's word
    parameter int FIELD_BITS   = 16,
    parameter int GOT_BITS     = 16    // the device's lane; it is cut or sign-extended to the file's field
) (
    input logic                     clk,
    input logic                     rst,
    input logic [             31:0] seed,
    input logic                     start,
    input walk_t                    walk,
    input logic                     take,
    input logic [    WORD_BITS-1:0] lanes,  // the word of `stream` as lanes, lane 0 lowest
    input logic [COLS*GOT_BITS-1:0] got
);
  factory_stream #(
      .LINE_BITS(LINE_BITS),
      .PARTS(PARTS),
      .DEPTH(DEPTH),
      .HEX(HEX),
      .HEADER_LINES(HEADER_LINES)
  ) stream (
      .clk  (clk),
      .rst  (rst),
      .seed (seed),
      .start(start),
      .walk (walk),
      .take (take)
  );

  logic [WORD_BITS-1:0] own_lanes;
  assign own_lanes = lanes >> walk.lane * FIELD_BITS;

  // For each col, what its field must be and what it is, in 32 bits.
  logic [COLS*32-1:0] must, have;
  logic [COLS-1:0] wrong;
  for (genvar c = 0; c < COLS; c++) begin : g_col
    logic signed [FIELD_BITS-1:0] field_must, field_have;
    assign field_must = own_lanes[c*FIELD_BITS+:FIELD_BITS];
    assign field_have = FIELD_BITS'($signed(got[c*GOT_BITS+:GOT_BITS]));
    assign must[32*c+:32] = 32'(field_must);
    assign have[32*c+:32] = 32'(field_have);
    assign wrong[c] = take && stream.active && field_must !== field_have;
  end

  int compared = 0;
  always_ff @(posedge clk) if (take && stream.active) compared <= compared + 1;
endmodule
