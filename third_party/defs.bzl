"""Compiler options of every first-party C++ target."""

TIDEGATE_COPTS = ["-Wshadow"]
