"""The simulation over the cores as they are, or over copies with a planted bug."""

load("//third_party:defs.bzl", "TIDEGATE_COPTS")

_CORES = {
    "shard_group": "//server/shard:shard_group",
    "tracker": "//worker/client:tracker",
    "cluster_state": "//scheduler:cluster_state",
    "worker_agent": "//worker/pipeline:worker_agent",
}

def simulation_library(name, replaced = {}):
    """A library of the simulation; `replaced` names other targets for some of the cores."""
    cores = dict(_CORES)
    cores.update(replaced)
    native.cc_library(
        name = name,
        testonly = True,
        srcs = native.glob(
            ["*.cc", "*.h"],
            exclude = ["*_main.cc", "*_test.cc", "simulation.h", "plan.h"],
        ),
        hdrs = [
            "simulation.h",
            "plan.h",
        ],
        copts = TIDEGATE_COPTS,
        deps = sorted(cores.values()) + [
            "//common:basics",
            "//common:logging",
            "//common:routing_table",
            "//common/wire:shard_wire",
            "//proto:cluster_cc",
            "//proto:scheduler_messages_cc",
            "//proto:scheduler_state_cc",
            "//proto:table_cc",
            "//server/shard:message_check",
            "//server/table:value_codec",
            "//worker/pipeline:staleness_policy",
            "@system//:absl",
        ],
    )
