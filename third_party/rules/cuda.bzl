"""cuda_library: .cu files compiled by nvcc, linked like any cc_library."""

load("@local_cuda//:defs.bzl", "CUDA_ENABLED", "CUDA_HOME", "CUDA_VERSION")

GENCODE = [
    "-gencode=arch=compute_80,code=sm_80",
    "-gencode=arch=compute_90,code=sm_90",
    "-gencode=arch=compute_90,code=compute_90",  # PTX for newer devices
]

def _cuda_objects_impl(ctx):
    cc = [d[CcInfo].compilation_context for d in ctx.attr.deps]
    objs = []
    for src in ctx.files.srcs:
        obj = ctx.actions.declare_file("_cuda/%s/%s.pic.o" % (ctx.label.name, src.basename))
        args = ctx.actions.args()
        args.add_all(["-c", "-std=c++20", "-O3", "-ccbin", "/usr/bin/g++", "-Xcompiler", "-fPIC,-Wall"])
        args.add_all(GENCODE)
        args.add_all(ctx.attr.copts)
        args.add("-I.")
        args.add("-I" + ctx.bin_dir.path)
        for c in cc:
            args.add_all(c.defines, format_each = "-D%s")
            args.add_all(c.includes, format_each = "-I%s")
            args.add_all(c.quote_includes, format_each = "-I%s")
            args.add_all(c.system_includes, format_each = "-isystem=%s")
        args.add(src)
        args.add("-o", obj)
        ctx.actions.run(
            executable = CUDA_HOME + "/bin/nvcc",
            arguments = [args],
            inputs = depset(ctx.files.srcs + ctx.files.hdrs, transitive = [c.headers for c in cc]),
            outputs = [obj],
            mnemonic = "CudaCompile",
            progress_message = "nvcc %s" % src.short_path,
            env = {"PATH": "/usr/bin:/bin", "TIDEGATE_CUDA_VERSION": CUDA_VERSION},
        )
        objs.append(obj)
    return [DefaultInfo(files = depset(objs))]

_cuda_objects = rule(
    implementation = _cuda_objects_impl,
    attrs = {
        "srcs": attr.label_list(allow_files = [".cu"]),
        "hdrs": attr.label_list(allow_files = True),
        "deps": attr.label_list(providers = [CcInfo]),
        "copts": attr.string_list(),
    },
)

def cuda_library(name, srcs, hdrs = [], deps = [], copts = [], visibility = None):
    """A cc_library of .cu sources; without CUDA it is a header-only library."""
    objs = []
    if CUDA_ENABLED:
        _cuda_objects(name = name + "_cuda", srcs = srcs, hdrs = hdrs, deps = deps + ["@local_cuda//:headers"], copts = copts)
        objs = [name + "_cuda"]
    native.cc_library(
        name = name,
        srcs = objs,
        hdrs = hdrs,
        deps = deps + ["@local_cuda//:cublas"],
        visibility = visibility,
    )
