// What enters a lane, behind its skew registers, and whether it is the first or the last word of a pass.
module factory_edge_lane #(
    parameter int BITS  = 4,
    parameter int DELAY = 0
) (
    input  logic            clk,
    input  logic            rst,
    input  logic [    31:0] words,
    input  logic            valid,
    input  logic [BITS-1:0] value,
    output logic [BITS+2:0] out     // first, last, valid, value
);
  logic [31:0] count;
  logic first, last, there;
  logic [BITS-1:0] late;
  factory_delay #(
      .BITS (BITS + 1),
      .DEPTH(DELAY)
  ) skew (
      .clk(clk),
      .rst(rst),
      .enable(1'b1),
      .in({valid, value}),
      .out({there, late})
  );
  assign first = count == '0;
  assign last = count == words - 1;
  assign out = {first, last, there, late};
  always_ff @(posedge clk)
    if (rst) count <= '0;
    else if (there) count <= last ? '0 : count + 1;
endmodule
