"""`tidegate config --check`: everything that is wrong, with its line; and how commands name files and flags."""

import pytest
from cluster import run

JOB = """name: "clicks"
data {
  format: CSV
  train { files: "%s" }
}
feature { name: "user" table: "emb" }
feature { name: "item" table: "emb" }
feature { name: "price" numeric {} }
table { name: "emb" part { name: "w" dim: 1 sgd { lr: 0.1 } } }
model {
  block { name: "sum" sum { in: "emb.w" } }
  task { name: "click" label: "click" logit: "sum" }
}
"""


@pytest.fixture
def job(tmp_path):
    data = tmp_path / "clicks.csv"
    data.write_text("click,user,item,price\n" + "1,2,3,4\n0,3,4,5\n" * 50)
    path = tmp_path / "job.textproto"
    path.write_text(JOB % data)
    return path


def change(job, *pairs):
    text = job.read_text()
    for before, after in pairs:
        assert before in text
        text = text.replace(before, after)
    job.write_text(text)
    done = run("config", "--check", job)
    assert done.returncode == 1 and not done.stdout
    return done.stderr


def test_a_feature_that_no_block_reads_is_a_warning_with_its_line(job):
    done = run("config", "--check", job)
    assert done.returncode == 0, done.stderr
    assert done.stderr == '%s:8:1: warning: feature "price": no block reads it\n' % job


def test_problems_of_fields_graph_and_columns_come_at_once_with_lines(job):
    errors = change(job, ("lr: 0.1", "lr: -1"), ('in: "emb.w"', 'in: "emb.q"'), ('logit: "sum"', 'logit: "nope"'),
                    ('name: "item" table', 'name: "itm" table'), ('label: "click"', 'label: "clik"')).splitlines()
    at = [(line.split(": ", 1)[0].replace(str(job), "job"), line.split(": ", 1)[1]) for line in errors]
    found = {place: text for place, text in at}
    assert len(errors) == 5, errors
    assert found["job:9:51"].startswith('table "emb": part "w": sgd.lr is -1')
    assert 'input "emb.q" names no part of table "emb"' in found["job:11:29"]
    assert found["job:12:38"].startswith('task "click": logit "nope" is no block')
    assert 'has no column "itm" (did you mean "item"?)' in found["job:7:1"]
    assert 'clicks.csv:1 has no column "clik" (did you mean "click"?)' in found["job:12:24"]


def test_what_an_override_breaks_is_named_by_it(job):
    done = run("config", "--check", job, "--set", "train.epochs=0")
    assert done.returncode == 1 and done.stderr.startswith("--set train.epochs=0: train.epochs is 0")


def test_a_header_that_is_none_says_what_to_write(job, tmp_path):
    (tmp_path / "clicks.csv").write_text("1,2,,4\n0,2,3,\n")
    errors = run("config", "--check", job).stderr
    assert "column 3 has no name" in errors and "csv { header: false column: [...] }" in errors


@pytest.mark.parametrize("command", ["plan", "data", "config"])
def test_a_config_is_a_word_or_a_flag(job, command):
    flags = ["--show"] if command == "config" else []
    by_word, by_flag = run(command, *flags, job), run(command, *flags, "--config=%s" % job)
    assert by_word.returncode == by_flag.returncode == 0
    assert by_word.stdout == by_flag.stdout != ""
    if command != "config":
        assert run(command, job, "--config=%s" % job).returncode == 2


@pytest.mark.parametrize("command,flag", [("evaluate", "batch=-1"), ("evaluate", "batch=0"), ("predict", "batch=99999999999"), ("plan", "limit=-1"),
                                          ("data", "limit=-1"), ("data", "top=-1"), ("predict", "max_bad_lines=-1")])
def test_a_number_out_of_range_is_refused_by_flag_and_range(command, flag):
    done = run(command, "--" + flag)
    assert done.returncode == 2 and "--%s: a whole number from " % flag in done.stderr


@pytest.mark.parametrize("value", ["-1", "", "many"])
def test_a_staleness_that_is_none_is_refused_by_its_flag(job, value, tmp_path):
    done = run("local", "--config=%s" % job, "--staleness=" + value, "--run_dir=%s" % (tmp_path / "run"))
    assert done.returncode == 2 and "--staleness" in done.stderr and not (tmp_path / "run").exists()


def test_a_file_that_is_not_there_is_a_note_with_the_nearest_name(job, tmp_path):
    job.write_text(job.read_text().replace("clicks.csv", "click.csv"))
    done = run("config", "--check", job)
    assert done.returncode == 0 and 'note: data.train.files: nothing matches %s (did you mean "clicks.csv"?)' % (tmp_path / "click.csv") in done.stderr


@pytest.mark.parametrize("text,words", [("click;user;item;price\n1;2;3;4\n", 'write csv { delimiter: ";" }'), ("1,u7,i12,3.5\n", "write csv { header: false column: [...] }")])
def test_a_file_of_another_shape_says_what_to_write_once(job, tmp_path, text, words):
    (tmp_path / "clicks.csv").write_text(text)
    errors = run("config", "--check", job).stderr
    assert errors.count(words) == 1 and [line for line in errors.splitlines() if words in line][0].startswith("%s:" % job), errors


def test_an_id_feature_as_the_number_of_a_block(job):
    assert 'input "user" is an id feature: ' in change(job, ('in: "emb.w"', 'in: ["emb.w", "user"]'))
