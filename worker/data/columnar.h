#pragma once
// Columnar files are read as lines of text, so that windows, splits, negatives and bad lines are the same
// for all formats: one row a line, fields in the wanted order, apart by one byte, the values of a
// list by another. An empty field is missing. Numbers are the shortest decimals that read back equal.

namespace tidegate::columnar {

inline constexpr char kFieldEnd = '\x1f';
inline constexpr char kValueEnd = '\x1e';

// Texts cannot hold these.
inline bool IsReserved(char c) { return c == kFieldEnd || c == kValueEnd || c == '\n' || c == '\0'; }

}  // namespace tidegate::columnar
