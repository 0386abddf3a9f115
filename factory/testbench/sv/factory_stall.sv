// A seeded coin for each clock (xorshift, the same in every simulator): `go` is 1 always when SEED is 0.
module factory_stall (
    input  logic        clk,
    input  logic        rst,
    input  logic [31:0] seed,
    output logic        go
);
  logic [31:0] now, a, b, next;
  assign a = now ^ (now << 13);
  assign b = a ^ (a >> 17);
  assign next = b ^ (b << 5);
  assign go = seed == 0 || now[7];
  always_ff @(posedge clk) now <= rst ? seed : next;
endmodule
