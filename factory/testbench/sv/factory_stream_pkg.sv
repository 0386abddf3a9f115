// Types shared by the testbench's streams.
package factory_stream_pkg;
  localparam int NAME_BITS = 8 * 256;  // a word of the jobs file

  typedef struct packed {
    logic [31:0] outer_count;
    logic [31:0] middle_count;
    logic [31:0] inner_count;
    logic [31:0] base;
    logic [31:0] outer_stride;
    logic [31:0] middle_stride;
    logic [31:0] inner_stride;
    logic [31:0] part_stride;
    logic [31:0] lane;  // the lane of the file's word that is the array's lane 0
  } walk_t;
endpackage
