#pragma once
// Flags that several subcommands share.

#include <gflags/gflags.h>

DECLARE_string(config);
DECLARE_bool(json);
DECLARE_bool(quick);
DECLARE_string(only);
DECLARE_string(scheduler);
DECLARE_string(data);
DECLARE_bool(given_rows);
DECLARE_string(format);
DECLARE_string(checkpoint);
DECLARE_string(out);
DECLARE_bool(force);
DECLARE_uint32(batch);
DECLARE_uint64(max_bad_lines);
DECLARE_string(bin_dir);
DECLARE_bool(quiet);
DECLARE_bool(verbose);
DECLARE_int32(servers);
DECLARE_int32(workers);
DECLARE_string(run_dir);
DECLARE_uint64(seed);
