#pragma once
// The tables of a job as servers know them: sparse ones from the config, dense ones from what the
// model's blocks declare.

#include <string>
#include <vector>

#include "common/types.h"
#include "proto/job.pb.h"
#include "proto/table.pb.h"
#include "worker/model/block.h"

namespace tidegate {

TableSpec SparseTableSpec(const JobConfig& config, const TableConfig& table, TableId id);
// `name`: "<block>/<parameter>".
TableSpec DenseTableSpec(const JobConfig& config, const DenseParameter& parameter,
                         const std::string& name, TableId id);

// A pull of a key that is not admitted answers with the mark of FEATURE_OOV: all elements NaN.
bool MarksUnadmitted(const TableSpec& spec);

// Sum of the parts' dims.
uint32_t RowWidth(const TableSpec& spec);
uint64_t DenseElements(const TableSpec& spec);
uint64_t DenseBlocks(const TableSpec& spec);

}  // namespace tidegate
