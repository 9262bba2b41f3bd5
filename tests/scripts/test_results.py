"""tests/results.py counts what the reports say, and never turns a bad end into a pass."""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(HERE, "..", "results.py")


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT] + [str(a) for a in arguments], capture_output=True, text=True)


def report(path, *cases):
    path.write_text("<testsuites><testsuite>" + "".join("<testcase name='c'>%s</testcase>" % c for c in cases) +
                    "</testsuite></testsuites>")
    return path


def events(path, *items):
    path.write_text("\n".join(json.dumps(i) for i in items))
    return path


def test_result(label, status, xml):
    outputs = [{"name": "test.xml", "uri": "file://%s" % xml}] if xml else []
    return {"id": {"testResult": {"label": label}}, "testResult": {"status": status, "testActionOutput": outputs}}


test_result.__test__ = False


def test_cases_are_counted_by_outcome(tmp_path):
    xml = report(tmp_path / "a.xml", "", "", "<failure/>", "<skipped/>", "<error/>")
    assert run("junit", "x", xml).stdout == "2 2 1 x\n"


def test_a_bad_exit_without_a_failed_case_is_a_failure(tmp_path):
    xml = report(tmp_path / "a.xml", "")
    assert run("junit", "x", xml, "0").stdout == "1 0 0 x\n"
    assert run("junit", "x", xml, "5").stdout == "1 1 0 x\n"
    assert run("junit", "x", tmp_path / "none.xml", "2").stdout == "0 1 0 x\n"


def test_bazel_targets_are_summed(tmp_path):
    a = report(tmp_path / "a.xml", "", "")
    b = report(tmp_path / "b.xml", "", "<failure/>")
    path = events(tmp_path / "e", test_result("//a", "PASSED", a), test_result("//b", "FAILED", b))
    assert run("bazel", "x", path, "3").stdout == "3 1 0 x\n"


def test_a_target_that_crashed_hung_or_reported_nothing_is_a_failure(tmp_path):
    a = report(tmp_path / "a.xml", "")
    path = events(tmp_path / "e", test_result("//a", "TIMEOUT", a), test_result("//b", "PASSED", None),
                  test_result("//c", "FAILED", tmp_path / "none.xml"))
    assert run("bazel", "x", path, "3").stdout == "1 3 0 x\n"


def test_a_target_that_did_not_build_is_a_failure(tmp_path):
    path = events(tmp_path / "e", {"id": {"targetCompleted": {"label": "//a"}}, "completed": {}},
                  {"id": {"targetCompleted": {"label": "//b"}}, "completed": {"success": True}})
    assert run("bazel", "x", path, "1").stdout == "0 1 0 x\n"
    assert run("bazel", "x", tmp_path / "none", "1").stdout == "0 1 0 x\n"


def test_the_total_is_the_last_line_and_the_exit_status(tmp_path):
    counts = tmp_path / "counts"
    counts.write_text("3 0 1 a\n4 0 0 b c\n")
    done = run("total", counts)
    assert (done.stdout.splitlines()[-1], done.returncode) == ("7 passed, 0 failed, 1 skipped", 0)
    counts.write_text("3 1 0 a\n")
    done = run("total", counts)
    assert (done.stdout.splitlines()[-1], done.returncode) == ("3 passed, 1 failed", 1)
    counts.write_text("")
    assert run("total", counts).returncode == 1
