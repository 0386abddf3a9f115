// Drives skewless_array with exported edge streams, a word a clock, and compares each sum below it with theirs.
module skewless_bench #(
    parameter int ROWS       = 4,
    parameter int COLS       = 4,
    parameter int OS         = 0,
    parameter int WEST_BITS  = 9,
    parameter int NORTH_BITS = 9,
    parameter int SUM_BITS   = 16,
    parameter int CYCLES     = 16
);
  logic clk = 0, rst = 1;
  logic [ROWS-1:0] west_valid = '0;
  logic [ROWS*WEST_BITS-1:0] west = '0;
  logic [COLS-1:0] north_valid = '0, south_valid;
  logic [COLS*NORTH_BITS-1:0] north = '0;
  logic [COLS*SUM_BITS-1:0] south;

  logic [ROWS*WEST_BITS-1:0] wests[CYCLES];
  logic [ROWS-1:0] west_valids[CYCLES];
  logic [COLS*NORTH_BITS-1:0] norths[CYCLES];
  logic [COLS*SUM_BITS-1:0] souths[CYCLES];
  logic [COLS-1:0] north_valids[CYCLES], south_valids[CYCLES];

  skewless_array #(
      .ROWS(ROWS),
      .COLS(COLS),
      .OS(OS),
      .WEST_BITS(WEST_BITS),
      .NORTH_BITS(NORTH_BITS),
      .SUM_BITS(SUM_BITS)
  ) dut (
      .clk(clk),
      .rst(rst),
      .west_valid(west_valid),
      .west(west),
      .north_valid(north_valid),
      .north(north),
      .south_valid(south_valid),
      .south(south)
  );

  int wrong = 0, compared = 0;
  task automatic tick;
    #1 clk = 1;
    #1 clk = 0;
  endtask

  initial begin
    $readmemb("west.txt", wests);
    $readmemb("west_valid.txt", west_valids);
    $readmemb("north.txt", norths);
    $readmemb("north_valid.txt", north_valids);
    $readmemb("south.txt", souths);
    $readmemb("south_valid.txt", south_valids);
    tick;
    rst = 0;
    for (int cycle = 0; cycle < CYCLES; cycle++) begin
      west = wests[cycle];
      west_valid = west_valids[cycle];
      north = norths[cycle];
      north_valid = north_valids[cycle];
      #1;
      // a column without a channel gives sums that nobody takes
      for (int col = 0; col < COLS; col++)
        if (south_valids[cycle][col]) begin
          compared++;
          if (!south_valid[col] || south[col*SUM_BITS+:SUM_BITS] !== souths[cycle][col*SUM_BITS+:SUM_BITS]) wrong++;
        end else if (col == 0 && south_valid[col] && OS == 0) wrong++;
      tick;
    end
    $display("%0d compared, %0d wrong", compared, wrong);
    $finish;
  end
endmodule
