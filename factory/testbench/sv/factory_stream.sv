// One stream of words: its memory, filled from exported files; the walk of a job through it; and seeded stalls.
// The testbench reads `active`, `offer`, `accept`, `outer`, `middle`, `inner` and `word` by their hierarchical names.
//
// The walk is three nested loops over the lines of the memory, the inner one fastest. A word is PARTS lines, the first
// one in the lowest bits.
module factory_stream
  import factory_stream_pkg::*;
#(
    parameter int LINE_BITS    = 32,
    parameter int PARTS        = 1,
    parameter int DEPTH        = 1,
    parameter int HEX          = 0,  // 1: files for $readmemh, 0: for $readmemb
    parameter int HEADER_LINES = 0   // comment lines in front, `//`
) (
    input logic        clk,
    input logic        rst,
    input logic [31:0] seed,   // of the stalls; 0: none
    input logic        start,  // begin the walk
    input walk_t       walk,
    input logic        take    // the word moves in this clock
);
  logic active;  // words are left
  logic offer;  // for a source's valid: once 1, it stays until `take`
  logic accept;  // this clock does not stall: for a sink's ready
  logic [31:0] outer, middle, inner;
  logic [PARTS*LINE_BITS-1:0] word;

  localparam int DIGITS = (HEX != 0) ? (LINE_BITS + 3) / 4 : LINE_BITS;
  localparam int LINE_CHARS = DIGITS + 256;

  logic [LINE_BITS-1:0] memory[0:DEPTH-1];

  // Fill `count` words from `first` on. A file must have exactly that many lines, each with its newline.
  task automatic load(input logic [NAME_BITS-1:0] name, input int first, input int count);
    int file, chars, lines;
    logic [8*LINE_CHARS-1:0] line;
    file = $fopen(name, "r");
    if (file == 0) $fatal(1, "%0s: cannot be opened", name);
    lines = 0;
    chars = $fgets(line, file);
    while (chars != 0) begin
      lines = lines + 1;
      if (line[7:0] != "\n") $fatal(1, "%0s: line %0d must end in a newline", name, lines);
      if (lines > HEADER_LINES && chars != DIGITS + 1)
        $fatal(1, "%0s: line %0d must have %0d digits, not %0d", name, lines, DIGITS, chars - 1);
      chars = $fgets(line, file);
    end
    $fclose(file);
    if (lines != HEADER_LINES + count)
      $fatal(1, "%0s: must have %0d lines, not %0d", name, HEADER_LINES + count, lines);
    if (HEX != 0) $readmemh(name, memory, first, first + count - 1);
    else $readmemb(name, memory, first, first + count - 1);
  endtask

  logic [31:0] address;
  assign address = walk.base + outer * walk.outer_stride + middle * walk.middle_stride + inner * walk.inner_stride;
  for (genvar part = 0; part < PARTS; part++) begin : g_part
    assign word[part*LINE_BITS+:LINE_BITS] = memory[address+part*walk.part_stride];
  end

  initial active = 0;
  always_ff @(posedge clk)
    if (start) begin
      active <= walk.outer_count != 0 && walk.middle_count != 0 && walk.inner_count != 0;
      outer  <= 0;
      middle <= 0;
      inner  <= 0;
    end else if (take && active) begin
      inner <= inner + 1;
      if (inner == walk.inner_count - 1) begin
        inner  <= 0;
        middle <= middle + 1;
        if (middle == walk.middle_count - 1) begin
          middle <= 0;
          outer  <= outer + 1;
          if (outer == walk.outer_count - 1) active <= 0;
        end
      end
    end

  // A coin for each clock: xorshift, the same in every simulator.
  logic [31:0] coin, coin_a, coin_b;
  assign coin_a = coin ^ (coin << 13);
  assign coin_b = coin_a ^ (coin_a >> 17);
  logic go, offered;
  assign go = seed == 0 || coin[7];
  assign accept = go;
  assign offer = active && offered;
  always_ff @(posedge clk) begin
    coin <= rst ? seed : coin_b ^ (coin_b << 5);
    if (start || take || !offered) offered <= go;
  end
endmodule
