#pragma once
// Columns of a Parquet file as lines of text (columnar.h), by a process of tidegate-parquet.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/byte_reader.h"

namespace tidegate {

// $TIDEGATE_PARQUET, or tidegate-parquet beside this process's program. FAILED_PRECONDITION if there is
// none: it is built on its own.
absl::StatusOr<std::string> ParquetProgram();

// What `program` writes to its standard output when it is run with `path` and `columns`. Its failure, told on
// its standard error, is the error of the Read() that reaches the end. A reader that goes away
// before the end ends the process.
absl::StatusOr<std::unique_ptr<ByteReader>> OpenParquetText(const std::string& program,
                                                            const std::string& path,
                                                            const std::vector<std::string>& columns);

}  // namespace tidegate
