"""`tidegate config --expand`: a preset's blocks are a config that means the same."""

import glob
import os

import cluster

TOWERS = """
data { format: GENERATED train { rows: 100 } generator { cardinality: [10, 10] } }
feature { name: "C{1..2}" table: "emb" }
table { name: "emb" part { name: "v" dim: 4 adam {} } }
model { preset { kind: TWO_TOWER query: "C1.v" item: "C2.v" units: 8 cosine: true }
  task { loss: SOFTMAX item_feature: "C2" } }
"""


def test_expanded_configs_are_valid_have_no_preset_and_expand_to_themselves(tmp_path):
    files = glob.glob(os.path.join(cluster.ROOT, "configs", "*.textproto"))
    towers = tmp_path / "towers.textproto"
    towers.write_text(TOWERS)
    assert len(files) > 5
    for file in files + [towers]:
        expanded = cluster.run("config", "--expand", file)
        assert expanded.returncode == 0, expanded.stderr
        assert "preset {" not in expanded.stdout
        assert 'name: "logit"' in expanded.stdout or 'logit: "' in expanded.stdout
        again = tmp_path / "expanded.textproto"
        again.write_text(expanded.stdout)
        checked = cluster.run("config", "--check", again)
        assert checked.returncode == 0, checked.stderr
        assert cluster.run("config", "--expand", again).stdout == expanded.stdout
    assert 'cosine {' in expanded.stdout
    assert 'query: "query"' in expanded.stdout


def test_a_preset_that_lacks_a_field_is_refused_with_its_name(tmp_path):
    file = tmp_path / "job.textproto"
    file.write_text(TOWERS.replace("units: 8", ""))
    refused = cluster.run("config", "--expand", file)
    assert refused.returncode == 1
    assert "model.preset TWO_TOWER: units" in refused.stderr
    assert refused.stdout == ""
