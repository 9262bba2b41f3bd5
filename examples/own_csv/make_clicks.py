#!/usr/bin/env python3
"""Writes clicks-train.csv and clicks-valid.csv: made-up impressions with the five columns
user,item,hour,price,clicked. Who clicks on what follows hidden tastes of users and items, so there is something to learn.

  make_clicks.py [FOLDER [ROWS]]
"""

import csv
import math
import os
import random
import sys

USERS, ITEMS, TASTES = 500, 200, 2


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "."
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 200000
    rng = random.Random(7)
    users = [[rng.gauss(0, 1) for _ in range(TASTES)] for _ in range(USERS)]
    items = [[rng.gauss(0, 1) for _ in range(TASTES)] for _ in range(ITEMS)]
    prices = [round(math.exp(rng.gauss(2, 0.8)), 2) for _ in range(ITEMS)]
    for name, count in (("clicks-train.csv", rows), ("clicks-valid.csv", rows // 10)):
        with open(os.path.join(folder, name), "w", newline="") as f:
            out = csv.writer(f, lineterminator="\n")
            out.writerow(["user", "item", "hour", "price", "clicked"])
            for _ in range(count):
                u, i, hour = rng.randrange(USERS), int(ITEMS * rng.random() ** 2), rng.randrange(24)
                score = sum(a * b for a, b in zip(users[u], items[i])) + 0.8 * math.sin(hour / 24 * 2 * math.pi) - 0.4 * math.log(prices[i])
                price = "" if rng.random() < 0.05 else prices[i]  # now and then nobody noted it
                out.writerow(["u%d" % u, "i%d" % i, hour, price, int(rng.random() < 1 / (1 + math.exp(-score)))])


if __name__ == "__main__":
    main()
