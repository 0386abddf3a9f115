// Self-checking testbench: reads the jobs that the export listed, feeds the array, and compares what comes out.
//
// Run from the folder that holds the manifest. Plusargs: +jobs=FILE (default testbench/jobs.txt), +stall=SEED (random
// stalls on every handshake; 0, the default: none), +dump=FILE (write every word that the device gives, with the job
// that it belongs to, and go on after mismatches). Ends with $fatal on any failure, else with one line PASS.
module factory_tb;
  import factory_stream_pkg::*;
  import factory_pkg::*;

  localparam int REPORTED = 10;  // mismatches before the simulation gives up
  localparam int PATIENCE = 100000;  // clocks without a word before it gives up
  localparam int LANES = (ROWS > COLS) ? ROWS : COLS;

  logic clk = 0, rst = 1;
  always #5 clk = !clk;

  // ---- the job: what the device is told, how the streams walk, and the labels of the messages ---------------------
  logic start = 0, job_pending = 0, job_valid = 0, job_ready;
  logic job_os, job_continue;
  logic [15:0] job_it_count, job_kernel_y, job_kernel_x, job_stride_y, job_stride_x, job_dilation_y, job_dilation_x;
  logic [15:0] job_padded_width, job_out_width, job_act_count, job_nij_count, job_onij_count;
  logic [1:0] job_post_op;
  walk_t act_walk, weight_walk, psum_walk, partial_walk, acc_walk, out_walk;
  logic [NAME_BITS-1:0] layer;
  int image, it, ot, pt;  // WS: the first it; OS: the pixel tile

  always_ff @(posedge clk) begin
    job_pending <= start || (job_pending && !act_stream.accept);
    job_valid   <= (job_pending && act_stream.accept) || (job_valid && !job_ready);
  end

  // ---- streams and the device under test --------------------------------------------------------------------------
  logic [31:0] seed = 0;
  logic act_ready, weight_ready, psum_valid, out_valid;
  logic act_take, weight_take, psum_take, out_take;
  assign act_take = act_stream.offer && act_ready;
  assign weight_take = weight_stream.offer && weight_ready;
  assign psum_take = psum_valid && psum_sink.stream.accept;
  assign out_take = out_valid && out_sink.stream.accept;

  logic [COLS*PSUM_BITS-1:0] psum;
  logic [ COLS*ACC_BITS-1:0] acc, out;

  factory_stream #(
      .LINE_BITS(ACT_LINE_BITS),
      .PARTS(ACT_PARTS),
      .DEPTH(ACT_DEPTH),
      .HEX(ACT_HEX),
      .HEADER_LINES(ACT_HEADER_LINES)
  ) act_stream (
      .clk  (clk),
      .rst  (rst),
      .seed (seed),
      .start(start),
      .walk (act_walk),
      .take (act_take)
  );
  factory_stream #(
      .LINE_BITS(WEIGHT_LINE_BITS),
      .PARTS(WEIGHT_PARTS),
      .DEPTH(WEIGHT_DEPTH),
      .HEX(WEIGHT_HEX),
      .HEADER_LINES(WEIGHT_HEADER_LINES)
  ) weight_stream (
      .clk  (clk),
      .rst  (rst),
      .seed (seed * 3),
      .start(start),
      .walk (weight_walk),
      .take (weight_take)
  );
  factory_sink #(
      .LINE_BITS(PSUM_LINE_BITS),
      .PARTS(PSUM_PARTS),
      .DEPTH(PSUM_DEPTH),
      .HEX(PSUM_HEX),
      .HEADER_LINES(PSUM_HEADER_LINES),
      .COLS(COLS),
      .WORD_BITS(PSUM_WORD_BITS),
      .FIELD_BITS(PSUM_FIELD_BITS),
      .GOT_BITS(PSUM_BITS)
  ) psum_sink (
      .clk(clk),
      .rst(rst),
      .seed(seed * 5),
      .start(start),
      .walk(psum_walk),
      .take(psum_take),
      .lanes(psum_lanes(psum_sink.stream.word)),
      .got(psum)
  );
  factory_sink #(
      .LINE_BITS(PARTIAL_LINE_BITS),
      .PARTS(PARTIAL_PARTS),
      .DEPTH(PARTIAL_DEPTH),
      .HEX(PARTIAL_HEX),
      .HEADER_LINES(PARTIAL_HEADER_LINES),
      .COLS(COLS),
      .WORD_BITS(PARTIAL_WORD_BITS),
      .FIELD_BITS(PARTIAL_FIELD_BITS),
      .GOT_BITS(ACC_BITS)
  ) partial_sink (
      .clk(clk),
      .rst(rst),
      .seed(seed * 7),
      .start(start),
      .walk(partial_walk),
      .take(out_take),
      .lanes(partial_lanes(partial_sink.stream.word)),
      .got(acc)
  );
  factory_sink #(
      .LINE_BITS(ACC_LINE_BITS),
      .PARTS(ACC_PARTS),
      .DEPTH(ACC_DEPTH),
      .HEX(ACC_HEX),
      .HEADER_LINES(ACC_HEADER_LINES),
      .COLS(COLS),
      .WORD_BITS(ACC_WORD_BITS),
      .FIELD_BITS(ACC_FIELD_BITS),
      .GOT_BITS(ACC_BITS)
  ) acc_sink (
      .clk(clk),
      .rst(rst),
      .seed(seed * 9),
      .start(start),
      .walk(acc_walk),
      .take(out_take),
      .lanes(acc_lanes(acc_sink.stream.word)),
      .got(acc)
  );
  factory_sink #(
      .LINE_BITS(OUT_LINE_BITS),
      .PARTS(OUT_PARTS),
      .DEPTH(OUT_DEPTH),
      .HEX(OUT_HEX),
      .HEADER_LINES(OUT_HEADER_LINES),
      .COLS(COLS),
      .WORD_BITS(OUT_WORD_BITS),
      .FIELD_BITS(OUT_FIELD_BITS),
      .GOT_BITS(ACC_BITS)
  ) out_sink (
      .clk(clk),
      .rst(rst),
      .seed(seed * 11),
      .start(start),
      .walk(out_walk),
      .take(out_take),
      .lanes(out_lanes(out_sink.stream.word)),
      .got(out)
  );
  factory_array #(
      .ROWS(ROWS),
      .COLS(COLS),
      .SIMD(SIMD),
      .ACT_BITS(ACT_BITS),
      .ACT_SIGNED(ACT_SIGNED),
      .WEIGHT_BITS(WEIGHT_BITS),
      .PSUM_BITS(PSUM_BITS),
      .ACC_BITS(ACC_BITS),
      .SATURATE(SATURATE),
      .DEPTH(DEPTH)
  ) dut (
      .clk(clk),
      .rst(rst),
      .job_valid(job_valid),
      .job_ready(job_ready),
      .job_os(job_os),
      .job_continue(job_continue),
      .job_it_count(job_it_count),
      .job_kernel_y(job_kernel_y),
      .job_kernel_x(job_kernel_x),
      .job_stride_y(job_stride_y),
      .job_stride_x(job_stride_x),
      .job_dilation_y(job_dilation_y),
      .job_dilation_x(job_dilation_x),
      .job_padded_width(job_padded_width),
      .job_out_width(job_out_width),
      .job_act_count(job_act_count),
      .job_nij_count(job_nij_count),
      .job_onij_count(job_onij_count),
      .job_post_op(job_post_op),
      .act_valid(act_stream.offer),
      .act_ready(act_ready),
      .act((ROWS * SIMD * ACT_BITS)'(act_lanes(act_stream.word) >> act_walk.lane * ACT_FIELD_BITS)),
      .weight_valid(weight_stream.offer),
      .weight_ready(weight_ready),
      .weight((LANES * SIMD * WEIGHT_BITS)'(weight_lanes(weight_stream.word) >> weight_walk.lane * WEIGHT_FIELD_BITS)),
      .psum_valid(psum_valid),
      .psum_ready(psum_sink.stream.accept),
      .psum(psum),
      .out_valid(out_valid),
      .out_ready(out_sink.stream.accept),
      .acc(acc),
      .out(out)
  );

  // ---- mismatches -------------------------------------------------------------------------------------------------
  int mismatches = 0;
  integer dump_file = 0;
  logic report;  // a dump goes on after the mismatches that are reported
  assign report = mismatches < REPORTED;

  task automatic mismatch;
    mismatches = mismatches + 1;
    if (mismatches == REPORTED && dump_file == 0) $fatal(1, "FAIL the first %0d mismatches are above", mismatches);
  endtask

  task automatic output_mismatch(input string what, input int at, input int c, input logic signed [31:0] must,
                                 input logic signed [31:0] have);
    if (job_os)
      $display("MISMATCH %0s, image %0d, ot %0d, pt %0d, row %0d, col %0d: %0s must be %0d, not %0d", layer, image, ot,
               pt, at, c, what, must, have);
    else
      $display("MISMATCH %0s, image %0d, it %0d, ot %0d, onij %0d, col %0d: %0s must be %0d, not %0d", layer, image,
               it + 32'(job_it_count) - 1, ot, at, c, what, must, have);
    mismatch;
  endtask

  always @(posedge clk)
    for (int c = 0; c < COLS; c++) begin
      if (report && psum_sink.wrong[c]) begin
        $display("MISMATCH %0s, image %0d, it %0d, ot %0d, kij %0d, nij %0d, col %0d: psum must be %0d, not %0d", layer,
                 image, it + psum_sink.stream.outer, ot, psum_sink.stream.middle, psum_sink.stream.inner, c,
                 $signed(psum_sink.must[32*c+:32]), $signed(psum_sink.have[32*c+:32]));
        mismatch;
      end
      if (report && partial_sink.wrong[c])
        output_mismatch("partial", partial_sink.stream.inner, c, partial_sink.must[32*c+:32],
                        partial_sink.have[32*c+:32]);
      if (report && acc_sink.wrong[c])
        output_mismatch("acc", acc_sink.stream.inner, c, acc_sink.must[32*c+:32], acc_sink.have[32*c+:32]);
      if (report && out_sink.wrong[c])
        output_mismatch("out", out_sink.stream.inner, c, out_sink.must[32*c+:32], out_sink.have[32*c+:32]);
    end

  // ---- the dump: one line a word, `STREAM JOB BITS`, the highest lane leftmost --------------------------------------
  int jobs = 0;

  always @(posedge clk)
    if (dump_file != 0) begin
      if (psum_take && psum_sink.stream.active) $fdisplay(dump_file, "psum %0d %b", jobs, psum);
      if (out_take && partial_sink.stream.active) $fdisplay(dump_file, "partial %0d %b", jobs, acc);
      if (out_take && acc_sink.stream.active) $fdisplay(dump_file, "acc %0d %b", jobs, acc);
      if (out_take && out_sink.stream.active) $fdisplay(dump_file, "out %0d %b", jobs, out);
    end

  // ---- protocol: words that nobody asked for, words that change while they wait, and silence are failures ---------
  logic psum_waits = 0, out_waits = 0, outputs_left;
  logic [COLS*PSUM_BITS-1:0] psum_before;
  logic [COLS*ACC_BITS-1:0] acc_before, out_before;
  int idle = 0;
  assign outputs_left = partial_sink.stream.active || acc_sink.stream.active || out_sink.stream.active;

  task automatic fail(input string what);
    $fatal(1, "FAIL %0s, image %0d, ot %0d, pt %0d: %0s", layer, image, ot, pt, what);
  endtask

  task automatic changed(input string what);
    if (dump_file == 0) fail(what);
    if (report) $display("MISMATCH %0s, image %0d, ot %0d, pt %0d: %0s", layer, image, ot, pt, what);
    mismatch;
  endtask

  always @(posedge clk)
    if (!rst) begin
      if (psum_take && !psum_sink.stream.active && psum_walk.inner_count != 0) fail("too many psum words");
      if (out_take && !outputs_left && (partial_walk.inner_count | acc_walk.inner_count | out_walk.inner_count) != 0)
        fail("too many output words");
      if (psum_waits && (psum_valid !== 1 || psum !== psum_before)) changed("psum must stay until it is taken");
      if (out_waits && (out_valid !== 1 || out !== out_before || acc !== acc_before))
        changed("out and acc must stay until they are taken");
      psum_waits  <= psum_valid && !psum_take;
      out_waits   <= out_valid && !out_take;
      psum_before <= psum;
      out_before  <= out;
      acc_before  <= acc;
      idle <= (act_take || weight_take || psum_take || out_take) ? 0 : idle + 1;
      if (idle == PATIENCE) fail($sformatf("no word has moved for %0d clocks", PATIENCE));
    end

  // ---- the jobs file: `load STREAM FIRST COUNT FILE`, `job LABELS DEVICE WALKS`, `end JOBS WORDS` -----------------
  integer jobs_file;

  // The numbers of the line that is being read. (Verilator 5.006 may call a function that reads a file out of order.)
  int field[0:4+15+6*9-1];
  task automatic read_fields(input int count);
    for (int i = 0; i < count; i++)
      if ($fscanf(jobs_file, "%d", field[i]) != 1) $fatal(1, "jobs file: must have %0d numbers here", count);
  endtask

  task automatic read_load;
    logic [NAME_BITS-1:0] stream, name;
    int first, count;
    if ($fscanf(jobs_file, "%s %d %d %s", stream, first, count, name) != 4)
      $fatal(1, "jobs file: must have a load here");
    case (stream)
      "act": act_stream.load(name, first, count);
      "weight": weight_stream.load(name, first, count);
      "psum": psum_sink.stream.load(name, first, count);
      "partial": partial_sink.stream.load(name, first, count);
      "acc": acc_sink.stream.load(name, first, count);
      "out": out_sink.stream.load(name, first, count);
      default: $fatal(1, "jobs file: stream must be act, weight, psum, partial, acc or out, not %0s", stream);
    endcase
  endtask

  function automatic walk_t walk_of(input int at);
    walk_of = {
      field[at], field[at+1], field[at+2], field[at+3], field[at+4],
      field[at+5], field[at+6], field[at+7], field[at+8]
    };
  endfunction

  task automatic read_job;
    if ($fscanf(jobs_file, "%s", layer) != 1) $fatal(1, "jobs file: must have a layer here");
    read_fields($size(field));
    image = field[0];
    it = field[1];
    ot = field[2];
    pt = field[3];
    job_os = field[4][0];
    job_continue = field[5][0];
    job_it_count = field[6][15:0];
    job_kernel_y = field[7][15:0];
    job_kernel_x = field[8][15:0];
    job_stride_y = field[9][15:0];
    job_stride_x = field[10][15:0];
    job_dilation_y = field[11][15:0];
    job_dilation_x = field[12][15:0];
    job_padded_width = field[13][15:0];
    job_out_width = field[14][15:0];
    job_act_count = field[15][15:0];
    job_nij_count = field[16][15:0];
    job_onij_count = field[17][15:0];
    job_post_op = field[18][1:0];
    act_walk = walk_of(19);
    weight_walk = walk_of(28);
    psum_walk = walk_of(37);
    partial_walk = walk_of(46);
    acc_walk = walk_of(55);
    out_walk = walk_of(64);
  endtask

  // Everything here happens at falling edges, half a clock away from what it drives.
  initial begin
    logic [NAME_BITS-1:0] name, command, dump;
    int jobs_must, compared, compared_must;
    if (!$value$plusargs("jobs=%s", name)) name = "testbench/jobs.txt";
    if (!$value$plusargs("stall=%d", seed)) seed = 0;
    if ($value$plusargs("dump=%s", dump)) dump_file = $fopen(dump, "w");
    jobs_file = $fopen(name, "r");
    if (jobs_file == 0) $fatal(1, "%0s: cannot be opened", name);
    repeat (4) @(negedge clk);
    rst = 0;
    command = "";
    while (command != "end") begin
      if ($fscanf(jobs_file, "%s", command) != 1) $fatal(1, "jobs file: must end with the line end");
      case (command)
        "load": read_load();
        "job": begin
          read_job();
          start = 1;
          @(negedge clk);
          start = 0;
          while (job_pending || job_valid || !job_ready || act_stream.active || weight_stream.active
                 || psum_sink.stream.active || outputs_left)
            @(negedge clk);
          jobs = jobs + 1;
          $display("JOB %0d %0s, image %0d, ot %0d", jobs, layer, image, ot);
        end
        "end": begin
          read_fields(2);
          jobs_must = field[0];
          compared_must = field[1];
        end
        default: $fatal(1, "jobs file: a line must begin with load, job or end, not %0s", command);
      endcase
    end
    repeat (100) @(negedge clk);  // a word too many still has time to come
    compared = psum_sink.compared + partial_sink.compared + acc_sink.compared + out_sink.compared;
    if (!report) $fatal(1, "FAIL the first %0d mismatches are above", mismatches);
    if (mismatches != 0) $fatal(1, "FAIL %0d mismatches", mismatches);
    if (jobs != jobs_must || compared != compared_must || compared == 0)
      $fatal(1, "FAIL jobs must be %0d, not %0d, and compared words %0d, not %0d", jobs_must, jobs, compared_must,
             compared);
    $display("PASS %0d jobs, %0d words compared", jobs, compared);
    $finish;
  end
endmodule
