#include "cli/flags.h"

DEFINE_string(config, "", "job config, text-format protobuf");
DEFINE_bool(json, false, "JSON on stdout");
DEFINE_bool(quick, false, "smaller and shorter");
DEFINE_string(only, "", "figures with this text in their names");
DEFINE_string(scheduler, "", "host:port of the scheduler");
DEFINE_string(data, "", "data file or glob");
DEFINE_string(format, "", "LIBSVM or CRITEO_TSV");
DEFINE_string(checkpoint, "", "folder of a checkpoint");
DEFINE_string(out, "", "where the result goes");
DEFINE_bool(force, false, "overwrite");
DEFINE_bool(given_rows, false, "score the data's rows as they are");
DEFINE_uint32(batch, 4096, "rows at a time");
DEFINE_uint64(max_bad_lines, 0, "go on up to so many bad lines");
DEFINE_string(bin_dir, "", "folder of the other binaries");
DEFINE_bool(quiet, false, "only warnings, errors and the result");
DEFINE_bool(verbose, false, "log lines as the processes write them");
DEFINE_int32(servers, 0, "server processes");
DEFINE_int32(workers, 0, "worker processes");
DEFINE_string(run_dir, "", "folder of the run");
DEFINE_uint64(seed, 1, "of what is drawn");
