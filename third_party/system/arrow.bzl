"""Arrow's C++ libraries as the pyarrow wheel carries them, for worker/parquet only.

$TIDEGATE_PYARROW names the folder of the Python package (with include/ and libparquet.so.*); without it,
what `python3 -c "import pyarrow"` finds. Where there is none, @arrow//:parquet fails to build and says so.
"""

_BUILD = """
package(default_visibility = ["//visibility:public"])

cc_library(
    name = "parquet",
    hdrs = glob(["include/**/*.h"]),
    includes = ["include"],
    linkopts = ["-L{path}", "-l:{parquet}", "-l:{arrow}", "-Wl,-rpath,{path}"],
)
"""

_ABSENT = """
genrule(
    name = "absent",
    outs = ["absent.h"],
    cmd = "echo 'no pyarrow: pip install pyarrow, and set TIDEGATE_PYARROW to its folder' >&2; exit 1",
)

cc_library(
    name = "parquet",
    hdrs = ["absent.h"],
    visibility = ["//visibility:public"],
)
"""

def _one(ctx, folder, prefix):
    found = [f.basename for f in folder.readdir() if f.basename.startswith(prefix)]
    return sorted(found)[0] if found else ""

def _arrow_impl(ctx):
    path = ctx.os.environ.get("TIDEGATE_PYARROW", "")
    if not path:
        res = ctx.execute(["python3", "-c", "import pyarrow; print(list(pyarrow.__path__)[0])"])
        path = res.stdout.strip() if res.return_code == 0 else ""
    parquet = _one(ctx, ctx.path(path), "libparquet.so.") if path and ctx.path(path).exists else ""
    if not parquet:
        ctx.file("BUILD", _ABSENT)
        return
    ctx.symlink(path + "/include", "include")
    ctx.file("BUILD", _BUILD.format(
        path = path,
        parquet = parquet,
        arrow = _one(ctx, ctx.path(path), "libarrow.so."),
    ))

arrow_library = repository_rule(
    implementation = _arrow_impl,
    environ = ["TIDEGATE_PYARROW"],
    local = True,
)
