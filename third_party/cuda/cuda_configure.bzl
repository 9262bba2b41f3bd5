"""Finds the CUDA toolkit. --repo_env=TIDEGATE_CUDA=auto (default) | 1 (must be there) | 0 (CPU only)."""

_BUILD = """
package(default_visibility = ["//visibility:public"])

cc_library(
    name = "headers",
    hdrs = glob(["include/**"], exclude_directories = 1),
    includes = ["include"],
    defines = ["TIDEGATE_HAVE_CUDA=1"],
)

cc_library(
    name = "cudart",
    linkopts = ["-L{home}/lib64", "-lcudart_static", "-ldl", "-lrt", "-lpthread"],
    deps = [":headers"],
)

cc_library(
    name = "cublas",
    linkopts = ["-L{home}/lib64", "-Wl,-rpath,{home}/lib64", "-lcublas"],
    deps = [":cudart"],
)

exports_files(["bin/nvcc"])
"""

_STUB = """
package(default_visibility = ["//visibility:public"])

cc_library(name = "headers")

cc_library(name = "cudart")

cc_library(name = "cublas")
"""

_DEFS = """
CUDA_ENABLED = {enabled}
CUDA_HOME = "{home}"
CUDA_VERSION = "{version}"

def if_cuda(yes, no = []):
    return yes if CUDA_ENABLED else no
"""

def _cuda_configure_impl(ctx):
    mode = ctx.os.environ.get("TIDEGATE_CUDA", "auto")
    home = ctx.os.environ.get("CUDA_HOME", "/usr/local/cuda")
    nvcc = ctx.path(home + "/bin/nvcc")
    found = nvcc.exists and ctx.path(home + "/include/cublas_v2.h").exists
    if mode == "1" and not found:
        fail("TIDEGATE_CUDA=1 but no CUDA toolkit with cuBLAS at " + home)
    if mode == "0" or not found:
        ctx.file("BUILD", _STUB)
        ctx.file("defs.bzl", _DEFS.format(enabled = "False", home = "", version = ""))
        return
    res = ctx.execute([nvcc, "--version"])
    if res.return_code != 0:
        fail("nvcc --version failed: " + res.stderr)
    version = res.stdout.strip().split("\n")[-1]
    ctx.symlink(home + "/include", "include")
    ctx.symlink(nvcc, "bin/nvcc")
    ctx.file("BUILD", _BUILD.format(home = home))
    ctx.file("defs.bzl", _DEFS.format(enabled = "True", home = home, version = version))

cuda_configure = repository_rule(
    implementation = _cuda_configure_impl,
    configure = True,
    local = True,
    environ = ["TIDEGATE_CUDA", "CUDA_HOME"],
)
