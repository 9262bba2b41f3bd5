"""Fuzz targets."""

load("//third_party:defs.bzl", "TIDEGATE_COPTS")

def fuzz_target(name, deps):
    """A test of <name>.cc and the driver, tagged "fuzz".

    By default 20,000 runs from a fixed seed; test.sh runs each for longer with --seconds=N under ASan + UBSan.
    """
    native.cc_test(
        name = name,
        size = "small",
        srcs = [name + ".cc"],
        copts = TIDEGATE_COPTS,
        tags = ["fuzz"],
        deps = [":driver"] + deps,
    )
