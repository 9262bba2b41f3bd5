"""Tests that a bug, planted into a copy of one source of a core, is found by the checker that should."""

load("//third_party:defs.bzl", "TIDEGATE_COPTS")

def planted_bug(name, source, core, checker, seeds, plans = "single"):
    """planted/<name>.txt goes into a copy of `source` (a label), which replaces the one in library `core`.

    The copy is an object of the test itself: the linker takes its symbols first, and never pulls the
    library's own object. `checker` must fail within `seeds` seeds, from 1. `plans`: "single", or "replicated".
    """
    native.genrule(
        name = name + "_cc",
        srcs = [
            "planted/%s.txt" % name,
            source,
        ],
        outs = ["planted_%s.cc" % name],
        cmd = "python3 $(location plant.py) $(location planted/%s.txt) $(location %s) $@" % (name, source),
        tools = ["plant.py"],
    )
    native.cc_test(
        name = "planted_%s_test" % name,
        size = "medium",
        srcs = [":%s_cc" % name],
        copts = TIDEGATE_COPTS,
        env = {
            "PLANTED_CHECKER": checker,
            "PLANTED_PLANS": plans,
            "PLANTED_SEEDS": str(seeds),
        },
        tags = ["noasan"],
        deps = [
            core,
            ":planted_case",
            ":simulation_lib",
            "//tests:catch_main",
        ],
    )
