// Self-checking testbench of edge streams: reads the jobs that the export listed, drives the array's west and north
// edge with a line in each clock, and compares what leaves below wherever that cycle's line of south is valid.
//
// Run from the folder that holds the manifest. Plusargs: +jobs=FILE (default testbench/jobs.txt), +dump=FILE (write
// what leaves below in each cycle, 0 where the line of south is not valid, and go on after mismatches). Ends with
// $fatal on any failure, else with one line PASS, which counts the lanes that were compared, cycle by cycle.
module factory_tb;
  import factory_stream_pkg::*;
  import factory_pkg::*;

  localparam int REPORTED = 10;  // mismatches before the simulation gives up

  logic clk = 0, rst = 1;
  always #5 clk = !clk;

  // ---- the job: how the streams walk, and the labels of the messages ----------------------------------------------
  logic start = 0;
  logic [31:0] words;  // of a pass
  walk_t west_walk, west_valid_walk, north_walk, north_valid_walk, south_walk, south_valid_walk;
  logic [NAME_BITS-1:0] where, path;
  int first_line;  // of the file in the memory of its stream

  // ---- streams and the device under test; a line moves in each clock ----------------------------------------------
  factory_stream #(
      .LINE_BITS(WEST_LINE_BITS),
      .PARTS(WEST_PARTS),
      .DEPTH(WEST_DEPTH),
      .HEX(WEST_HEX),
      .HEADER_LINES(WEST_HEADER_LINES)
  ) west_stream (
      .clk  (clk),
      .rst  (rst),
      .seed (0),
      .start(start),
      .walk (west_walk),
      .take (1'b1)
  );
  factory_stream #(
      .LINE_BITS(WEST_VALID_LINE_BITS),
      .PARTS(WEST_VALID_PARTS),
      .DEPTH(WEST_VALID_DEPTH),
      .HEX(WEST_VALID_HEX),
      .HEADER_LINES(WEST_VALID_HEADER_LINES)
  ) west_valid_stream (
      .clk  (clk),
      .rst  (rst),
      .seed (0),
      .start(start),
      .walk (west_valid_walk),
      .take (1'b1)
  );
  factory_stream #(
      .LINE_BITS(NORTH_LINE_BITS),
      .PARTS(NORTH_PARTS),
      .DEPTH(NORTH_DEPTH),
      .HEX(NORTH_HEX),
      .HEADER_LINES(NORTH_HEADER_LINES)
  ) north_stream (
      .clk  (clk),
      .rst  (rst),
      .seed (0),
      .start(start),
      .walk (north_walk),
      .take (1'b1)
  );
  factory_stream #(
      .LINE_BITS(NORTH_VALID_LINE_BITS),
      .PARTS(NORTH_VALID_PARTS),
      .DEPTH(NORTH_VALID_DEPTH),
      .HEX(NORTH_VALID_HEX),
      .HEADER_LINES(NORTH_VALID_HEADER_LINES)
  ) north_valid_stream (
      .clk  (clk),
      .rst  (rst),
      .seed (0),
      .start(start),
      .walk (north_valid_walk),
      .take (1'b1)
  );
  factory_stream #(
      .LINE_BITS(SOUTH_LINE_BITS),
      .PARTS(SOUTH_PARTS),
      .DEPTH(SOUTH_DEPTH),
      .HEX(SOUTH_HEX),
      .HEADER_LINES(SOUTH_HEADER_LINES)
  ) south_stream (
      .clk  (clk),
      .rst  (rst),
      .seed (0),
      .start(start),
      .walk (south_walk),
      .take (1'b1)
  );
  factory_stream #(
      .LINE_BITS(SOUTH_VALID_LINE_BITS),
      .PARTS(SOUTH_VALID_PARTS),
      .DEPTH(SOUTH_VALID_DEPTH),
      .HEX(SOUTH_VALID_HEX),
      .HEADER_LINES(SOUTH_VALID_HEADER_LINES)
  ) south_valid_stream (
      .clk  (clk),
      .rst  (rst),
      .seed (0),
      .start(start),
      .walk (south_valid_walk),
      .take (1'b1)
  );

  logic running;
  assign running = south_stream.active;

  logic [COLS-1:0] south_valid, must_valid;
  logic [COLS*SUM_BITS-1:0] south;
  logic [COLS*SOUTH_FIELD_BITS-1:0] must;
  assign must_valid = COLS'(south_valid_lanes(south_valid_stream.word) >> south_valid_walk.lane);
  assign must = (COLS * SOUTH_FIELD_BITS)'(south_lanes(south_stream.word) >> south_walk.lane * SOUTH_FIELD_BITS);

  factory_edge_array #(
      .ROWS(ROWS),
      .COLS(COLS),
      .OS(OS),
      .WEST_BITS(WEST_BITS),
      .WEST_SIGNED(WEST_SIGNED),
      .NORTH_BITS(NORTH_BITS),
      .NORTH_SIGNED(NORTH_SIGNED),
      .SUM_BITS(SUM_BITS),
      .SATURATE(SATURATE),
      .DEPTH(DEPTH),
      .DRAIN(DRAIN),
      .SKEW(SKEW),
      .ROW0_FIRST(ROW0_FIRST)
  ) dut (
      .clk(clk),
      .rst(rst),
      .words(words),
      .west_valid(running ? ROWS'(west_valid_lanes(west_valid_stream.word) >> west_valid_walk.lane) : '0),
      .west((ROWS * WEST_BITS)'(west_lanes(west_stream.word) >> west_walk.lane * WEST_BITS)),
      .north_valid(running ? COLS'(north_valid_lanes(north_valid_stream.word) >> north_valid_walk.lane) : '0),
      .north((COLS * NORTH_BITS)'(north_lanes(north_stream.word) >> north_walk.lane * NORTH_BITS)),
      .south_valid(south_valid),
      .south(south)
  );

  // ---- mismatches -------------------------------------------------------------------------------------------------
  // For each col, whether it is looked at, and what its field must be and what it is, in 32 bits.
  logic [COLS-1:0] looked_at, wrong;
  logic [COLS*32-1:0] need, have;
  assign looked_at = running ? must_valid : '0;
  for (genvar c = 0; c < COLS; c++) begin : g_col
    logic signed [SOUTH_FIELD_BITS-1:0] field_need, field_have;
    assign field_need = must[c*SOUTH_FIELD_BITS+:SOUTH_FIELD_BITS];
    assign field_have = SOUTH_FIELD_BITS'($signed(south[c*SUM_BITS+:SUM_BITS]));
    assign need[32*c+:32] = 32'(field_need);
    assign have[32*c+:32] = 32'(field_have);
    assign wrong[c] = looked_at[c] && (south_valid[c] !== 1 || field_have !== field_need);
  end

  int mismatches = 0, compared = 0;
  integer dump_file = 0;
  logic report;  // a dump goes on after the mismatches that are reported
  assign report = mismatches < REPORTED;

  task automatic mismatch(input int c);
    string is_now;
    is_now = "invalid";
    if (south_valid[c] === 1) is_now = $sformatf("%0d", $signed(have[32*c+:32]));
    $display("MISMATCH %0s, cycle %0d, %0s %0d (%0s, line %0d): south must be %0d, not %0s", where, south_stream.inner,
             LANE, c, path, SOUTH_HEADER_LINES + 1 + south_stream.address - first_line, $signed(need[32*c+:32]),
             is_now);
    mismatches = mismatches + 1;
    if (mismatches == REPORTED && dump_file == 0) $fatal(1, "FAIL the first %0d mismatches are above", mismatches);
  endtask

  always @(posedge clk)
    for (int c = 0; c < COLS; c++) begin
      if (looked_at[c]) compared = compared + 1;
      if (report && wrong[c]) mismatch(c);
    end

  // ---- the dump: one line a word, `STREAM JOB BITS`, the highest lane leftmost --------------------------------------
  int jobs = 0;
  logic [COLS*SUM_BITS-1:0] given;
  for (genvar c = 0; c < COLS; c++) begin : g_given
    assign given[c*SUM_BITS+:SUM_BITS] = (looked_at[c] && south_valid[c] !== 0) ? south[c*SUM_BITS+:SUM_BITS] : '0;
  end

  always @(posedge clk)
    if (dump_file != 0 && running) begin
      $fdisplay(dump_file, "south %0d %b", jobs, given);
      $fdisplay(dump_file, "south_valid %0d %b", jobs, south_valid & looked_at);
    end

  // ---- the jobs file: `load STREAM FIRST COUNT FILE`, `at ADDRESS`, `job FILE FIRST WORDS WALKS`, `end JOBS WORDS` --
  integer jobs_file;

  // The numbers of the line that is being read. (Verilator 5.006 may call a function that reads a file out of order.)
  int field[0:2+6*9-1];
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
      "west": west_stream.load(name, first, count);
      "west_valid": west_valid_stream.load(name, first, count);
      "north": north_stream.load(name, first, count);
      "north_valid": north_valid_stream.load(name, first, count);
      "south": south_stream.load(name, first, count);
      "south_valid": south_valid_stream.load(name, first, count);
      default: $fatal(1, "jobs file: stream must be west, north, south or the _valid of one, not %0s", stream);
    endcase
  endtask

  function automatic walk_t walk_of(input int at);
    walk_of = {
      field[at], field[at+1], field[at+2], field[at+3], field[at+4],
      field[at+5], field[at+6], field[at+7], field[at+8]
    };
  endfunction

  task automatic read_job;
    if ($fscanf(jobs_file, "%s", path) != 1) $fatal(1, "jobs file: must have a file here");
    read_fields($size(field));
    first_line = field[0];
    words = field[1];
    west_walk = walk_of(2);
    west_valid_walk = walk_of(11);
    north_walk = walk_of(20);
    north_valid_walk = walk_of(29);
    south_walk = walk_of(38);
    south_valid_walk = walk_of(47);
  endtask

  // Everything here happens at falling edges, half a clock away from what it drives.
  initial begin
    logic [NAME_BITS-1:0] name, command, dump;
    int jobs_must, compared_must;
    if (!$value$plusargs("jobs=%s", name)) name = "testbench/jobs.txt";
    if ($value$plusargs("dump=%s", dump)) dump_file = $fopen(dump, "w");
    jobs_file = $fopen(name, "r");
    if (jobs_file == 0) $fatal(1, "%0s: cannot be opened", name);
    command = "";
    while (command != "end") begin
      if ($fscanf(jobs_file, "%s ", command) != 1) $fatal(1, "jobs file: must end with the line end");
      case (command)
        "load": read_load();
        "at": begin
          if ($fgets(where, jobs_file) == 0) $fatal(1, "jobs file: must have an address here");
          where = where >> 8;  // without its newline
        end
        "job": begin
          read_job();
          rst = 1;
          repeat (2) @(negedge clk);
          start = 1;
          @(negedge clk);  // the first lines are there, the next rising edge takes them
          start = 0;
          rst = 0;
          while (running) @(negedge clk);
          jobs = jobs + 1;
          $display("JOB %0d %0s", jobs, where);
        end
        "end": begin
          read_fields(2);
          jobs_must = field[0];
          compared_must = field[1];
        end
        default: $fatal(1, "jobs file: a line must begin with load, at, job or end, not %0s", command);
      endcase
    end
    if (!report) $fatal(1, "FAIL the first %0d mismatches are above", REPORTED);
    if (mismatches != 0) $fatal(1, "FAIL %0d mismatches", mismatches);
    if (jobs != jobs_must || compared != compared_must || compared == 0)
      $fatal(1, "FAIL jobs must be %0d, not %0d, and compared words %0d, not %0d", jobs_must, jobs, compared_must,
             compared);
    $display("PASS %0d jobs, %0d words compared", jobs, compared);
    $finish;
  end
endmodule
