"""Tests that a bug, planted into a copy of one source of a core, is found by the checker that should."""

load("//third_party:defs.bzl", "TIDEGATE_COPTS")

def planted_bug(name, source, core, checker, seeds, plans = "single", bug = None):
    """planted/<bug>.txt (by default <name>.txt) goes into a copy of `source` (a label), which replaces the one in library `core`.

    The copy is an object of the test itself: the linker takes its symbols first, and never pulls the
    library's own object. `checker` must fail within `seeds` seeds, from 1. `plans`: "single", "replicated" or
    "elastic".
    """
    bug = "planted/%s.txt" % (bug or name)
    native.genrule(
        name = name + "_cc",
        srcs = [
            bug,
            source,
        ],
        outs = ["planted_%s.cc" % name],
        cmd = "python3 $(location plant.py) $(location %s) $(location %s) $@" % (bug, source),
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
