// The device under test: a systolic array, its control, and the special-function unit behind it. A device of your own
// takes its place in the testbench as a module of this name, with these parameters and ports.
//
// A job is one output tile: all its activation and weight words, then its output words.
//   Weight-stationary (job_os = 0): for it, for kij: COLS weight words (word col has a lane for each row), then
//     job_nij_count activation words (a lane for each row), each of which gives one psum word (a lane for each col).
//     Then job_onij_count output words, summed over it and kij; with job_continue, on top of the job before. Activation
//     words are those of the padded map, row by row: its border holds what stands for 0, whatever code that is. Output
//     pixel (oi, oj) reads its row oi * job_stride_y + ki * job_dilation_y and its column oj * job_stride_x + kj *
//     job_dilation_x.
//   Output-stationary (job_os = 1): job_act_count activation words (a lane for each of ROWS output pixels), each with
//     its weight word (a lane for each col), the input channel outer and kij inner. Then a psum word for each row, and
//     job_onij_count output words, one for each row from row 0 on. Fields of WS have the values of a 1 x 1 kernel on
//     one line of ROWS pixels.
// A row lane holds SIMD input channels, the lowest in the lowest bits; lane 0 is in the lowest bits of every word.
// A word moves in each clock in which its valid and its ready are both 1; valid, once 1, stays with its word until
// then. job_ready is 1 when the job before is over; a job's fields hold from job_valid to its last output word. Whoever
// does not look at the psums ties psum_ready to 1. All is synchronous to clk.
module factory_array #(
    parameter int ROWS        = 8,
    parameter int COLS        = 8,
    parameter int SIMD        = 1,     // input channels in a row lane
    parameter int ACT_BITS    = 4,
    parameter int ACT_SIGNED  = 0,     // 1: activations are two's complement
    parameter int WEIGHT_BITS = 4,     // two's complement
    parameter int PSUM_BITS   = 16,    // adders of the processing elements
    parameter int ACC_BITS    = 16,    // adders of the accumulator
    parameter int SATURATE    = 0,     // 1: every adder clamps; 0: every adder wraps
    parameter int DEPTH       = 1024,  // the most onij of a job
    parameter int LANES       = (ROWS > COLS) ? ROWS : COLS
) (
    input  logic                              clk,
    input  logic                              rst,
    // the job
    input  logic                              job_valid,
    output logic                              job_ready,
    input  logic                              job_os,
    input  logic                              job_continue,      // WS: add to what the job before has accumulated
    input  logic [                      15:0] job_it_count,
    input  logic [                      15:0] job_kernel_y,      // kij_count is job_kernel_y * job_kernel_x
    input  logic [                      15:0] job_kernel_x,
    input  logic [                      15:0] job_stride_y,      // of the output pixels, on the padded map
    input  logic [                      15:0] job_stride_x,
    input  logic [                      15:0] job_dilation_y,    // of the kernel positions, on the padded map
    input  logic [                      15:0] job_dilation_x,
    input  logic [                      15:0] job_padded_width,
    input  logic [                      15:0] job_out_width,
    input  logic [                      15:0] job_act_count,     // activation words of one pass; WS: nij_count
    input  logic [                      15:0] job_nij_count,     // psum words of one pass
    input  logic [                      15:0] job_onij_count,    // output words
    input  logic [                       1:0] job_post_op,       // 0 none, 1 ReLU, 2 leaky: x < 0 ? x >>> 6 : x
    // what goes in
    input  logic                              act_valid,
    output logic                              act_ready,
    input  logic [    ROWS*SIMD*ACT_BITS-1:0] act,
    input  logic                              weight_valid,
    output logic                              weight_ready,
    input  logic [LANES*SIMD*WEIGHT_BITS-1:0] weight,
    // what comes out: every psum on its way to the accumulator, and the outputs
    output logic                              psum_valid,
    input  logic                              psum_ready,
    output logic [        COLS*PSUM_BITS-1:0] psum,
    output logic                              out_valid,
    input  logic                              out_ready,
    output logic [         COLS*ACC_BITS-1:0] acc,               // before the post-op
    output logic [         COLS*ACC_BITS-1:0] out                // after it
);
  localparam int LATENCY = ROWS + COLS - 1;  // clocks from an activation word to its psum word

  typedef enum logic [1:0] {
    IDLE,  // wait for a job
    LOAD,  // WS: take COLS weight words
    PASS,  // stream one it and kij
    DRAIN  // give the outputs
  } state_t;
  state_t state;

  logic [15:0] it, ki, kj, col, sent, nij, onij;
  logic [LATENCY-1:0] in_flight;  // which clocks of the mesh hold a word

  // The whole mesh stands still while a psum word waits.
  logic enable, act_take, weight_take, psum_take;
  assign enable = !psum_valid || psum_ready;
  assign act_take = act_valid && act_ready;
  assign weight_take = weight_valid && weight_ready;
  assign psum_take = psum_valid && psum_ready;

  logic idle, passing, pass_open;
  assign idle = state == IDLE;
  assign passing = state == PASS;
  assign pass_open = passing && sent != job_act_count && enable;
  assign job_ready = idle;
  assign act_ready = pass_open && (!job_os || weight_valid);
  assign weight_ready = state == LOAD || (pass_open && job_os && act_valid);
  assign psum_valid = job_os ? passing && sent == job_act_count && in_flight == '0 : in_flight[LATENCY-1];
  assign out_valid = state == DRAIN;

  logic pass_end, last_kj, last_kij, last_pass;
  assign pass_end  = psum_take && nij == job_nij_count - 1;
  assign last_kj   = kj == job_kernel_x - 1;
  assign last_kij  = last_kj && ki == job_kernel_y - 1;
  assign last_pass = last_kij && it == job_it_count - 1;

  logic [COLS-1:0] load;
  assign load = (state == LOAD && weight_take) ? COLS'(1) << col : '0;

  logic [COLS*PSUM_BITS-1:0] psum_ws, psum_os;
  assign psum = job_os ? psum_os : psum_ws;

  // A clock without a word moves zeros through the mesh: they add nothing.
  factory_mesh #(
      .ROWS(ROWS),
      .COLS(COLS),
      .SIMD(SIMD),
      .ACT_BITS(ACT_BITS),
      .ACT_SIGNED(ACT_SIGNED),
      .WEIGHT_BITS(WEIGHT_BITS),
      .PSUM_BITS(PSUM_BITS),
      .SATURATE(SATURATE)
  ) mesh (
      .clk(clk),
      .rst(rst),
      .enable(enable),
      .os(job_os),
      .clear(idle),
      .load(load),
      .row(nij),
      .act(act_take ? act : '0),
      .weight(weight_take ? weight : '0),
      .psum_ws(psum_ws),
      .psum_os(psum_os)
  );

  factory_sfu #(
      .COLS(COLS),
      .PSUM_BITS(PSUM_BITS),
      .ACC_BITS(ACC_BITS),
      .SATURATE(SATURATE),
      .DEPTH(DEPTH)
  ) sfu (
      .clk(clk),
      .restart(!passing),
      .first(!job_continue && it == 0 && ki == 0 && kj == 0),
      .first_nij(ki * job_dilation_y * job_padded_width + kj * job_dilation_x),
      .stride_y(job_stride_y),
      .stride_x(job_stride_x),
      .padded_width(job_padded_width),
      .out_width(job_out_width),
      .onij_count(job_onij_count),
      .psum_valid(psum_take),
      .nij(nij),
      .psum(psum),
      .post_op(job_post_op),
      .read_onij(onij),
      .acc(acc),
      .out(out)
  );

  always_ff @(posedge clk)
    if (rst) in_flight <= '0;
    else if (enable) in_flight <= LATENCY'({in_flight, act_take});

  always_ff @(posedge clk)
    if (rst) begin
      state <= IDLE;
      {it, ki, kj, col, sent, nij, onij} <= '0;
    end else
      case (state)
        IDLE: begin
          {it, ki, kj, col, sent, nij, onij} <= '0;
          if (job_valid) state <= job_os ? PASS : LOAD;
        end
        LOAD: begin
          if (weight_take) col <= col + 1;
          if (weight_take && col == 16'(COLS - 1)) state <= PASS;
        end
        PASS: begin
          if (act_take) sent <= sent + 1;
          if (psum_take) nij <= nij + 1;
          if (pass_end) begin
            {col, sent, nij} <= '0;
            kj <= last_kj ? '0 : kj + 1;
            if (last_kj) ki <= last_kij ? '0 : ki + 1;
            if (last_kij) it <= it + 1;
            state <= last_pass ? DRAIN : LOAD;
          end
        end
        default: begin
          if (out_ready) onij <= onij + 1;
          if (out_ready && onij == job_onij_count - 1) state <= IDLE;
        end
      endcase
endmodule
