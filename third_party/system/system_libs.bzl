"""Repository rule that binds Debian's -dev packages as Bazel cc_library targets.

Headers live in /usr/include, which the auto-configured C++ toolchain treats
as a built-in include directory, so a target only has to carry link options.
Each library's exact Debian version becomes a -D macro of everything that uses
it, so upgrading a package changes the command lines and invalidates caches.
"""

# target: (pkg-config module or None, apt package, [extra link options], [deps])
_LIBS = {
    "absl": ("absl_base", "libabsl-dev", None, []),
    "catch2": ("catch2", "catch2", [], []),
    "gflags": ("gflags", "libgflags-dev", ["-lgflags"], []),
    "glog": ("libglog", "libgoogle-glog-dev", ["-lglog"], ["gflags"]),
    "grpcpp": ("grpc++", "libgrpc++-dev", ["-lgrpc++", "-lgrpc", "-lgpr"], ["protobuf", "absl"]),
    "grpcpp_reflection": ("grpc++", "libgrpc++-dev", ["-Wl,--push-state,--no-as-needed", "-lgrpc++_reflection", "-Wl,--pop-state"], ["grpcpp"]),
    "dnnl": (None, "libdnnl-dev", ["-ldnnl"], []),
    "prometheus_core": ("prometheus-cpp-core", "prometheus-cpp-dev", ["-lprometheus-cpp-core"], []),
    "protobuf": ("protobuf", "libprotobuf-dev", ["-lprotobuf", "-lpthread"], []),
    "httplib": ("cpp-httplib", "libcpp-httplib-dev", ["-lcpp-httplib"], []),
    "xxhash": ("libxxhash", "libxxhash-dev", ["-lxxhash"], []),
    "zlib": ("zlib", "zlib1g-dev", ["-lz"], []),
    "zstd": ("libzstd", "libzstd-dev", ["-lzstd"], []),
}

_ABSL_MODULES = [
    "absl_flags_parse",
    "absl_flags_usage",
    "absl_hash",
    "absl_raw_hash_set",
    "absl_status",
    "absl_statusor",
    "absl_strings",
    "absl_str_format",
    "absl_synchronization",
    "absl_time",
    "absl_random_random",
    "absl_cord",
]

def _run(ctx, args, what):
    res = ctx.execute(args)
    if res.return_code != 0:
        fail("%s failed: %s\n%s" % (" ".join([str(a) for a in args]), what, res.stderr))
    return res.stdout.strip()

def _dedup(words):
    seen = {}
    out = []
    for w in words:
        if w.startswith("-l"):
            if w in seen:
                continue
            seen[w] = True
        out.append(w)
    return out

def _package_version(ctx, apt, fallback):
    res = ctx.execute(["dpkg-query", "-W", "-f", "${Version}", apt])
    return res.stdout if res.return_code == 0 and res.stdout else fallback

def _ident(s):
    return "".join([c if c.isalnum() else "_" for c in s.elems()])

def _as_needed(linkopts):
    # Bazel's Linux toolchain passes -Wl,-no-as-needed; undo it for these libraries.
    if not linkopts or "--no-as-needed" in linkopts[0]:
        return linkopts
    return ["-Wl,--push-state,--as-needed"] + linkopts + ["-Wl,--pop-state"]

def _system_libs_impl(ctx):
    pkg_config = ctx.which("pkg-config")
    if not pkg_config:
        fail("pkg-config not found: apt-get install pkg-config")
    build = ['package(default_visibility = ["//visibility:public"])', ""]
    for name, (module, apt, linkopts, deps) in sorted(_LIBS.items()):
        version = _run(ctx, [pkg_config, "--modversion", module], "apt-get install " + apt) if module else "unknown"
        if linkopts == None:
            # The .so files carry their own DT_NEEDED entries; --as-needed drops
            # the ones a binary does not use.
            libs = _run(ctx, [pkg_config, "--libs"] + _ABSL_MODULES, "apt-get install " + apt)
            linkopts = _dedup([w for w in libs.split(" ") if w.startswith("-labsl")])
        define = "TIDEGATE_SYS_" + name.upper() + "_" + _ident(_package_version(ctx, apt, version))
        build += [
            "cc_library(",
            '    name = "%s",' % name,
            '    defines = ["%s"],' % define,
            "    linkopts = %s," % repr(_as_needed(linkopts)),
            "    deps = %s," % repr([":" + d for d in deps]),
            ")",
            "",
        ]

    for tool, apt in {"protoc": "protobuf-compiler", "grpc_cpp_plugin": "protobuf-compiler-grpc"}.items():
        path = ctx.which(tool)
        if not path:
            fail("%s not found: apt-get install %s" % (tool, apt))
        ctx.symlink(path, "bin/" + tool)
    build += ['exports_files(["bin/protoc", "bin/grpc_cpp_plugin"])', ""]
    ctx.file("BUILD", "\n".join(build))
    ctx.file("defs.bzl", 'PYTHON = "/usr/bin/python3"\n')

system_libs = repository_rule(
    implementation = _system_libs_impl,
    configure = True,
    local = True,
    environ = ["PKG_CONFIG_PATH"],
)
