// A delay line: `out` is `in`, DEPTH enabled clocks later; DEPTH 0 is a wire.
module factory_delay #(
    parameter int BITS  = 8,
    parameter int DEPTH = 1
) (
    input  logic            clk,
    input  logic            rst,
    input  logic            enable,
    input  logic [BITS-1:0] in,
    output logic [BITS-1:0] out
);
  if (DEPTH == 0) begin : g_wire
    logic unused;
    assign unused = &{1'b0, clk, rst, enable};
    assign out = in;
  end else begin : g_line
    logic [DEPTH*BITS-1:0] line;
    always_ff @(posedge clk)
      if (rst) line <= '0;
      else if (enable) line <= (DEPTH * BITS)'({line, in});
    assign out = line[(DEPTH-1)*BITS+:BITS];
  end
endmodule
