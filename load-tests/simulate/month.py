#!/usr/bin/env python3
"""A month of traffic for `spillway simulate`: CSV on stdout, the same for the same seed.

    load-tests/simulate/month.py --rows 30000000 --days 30 > month.csv

Demand swings by day (a peak in the afternoon) and falls to a half at weekends. Chat has short prompts; agents have long
ones, nearly all of them cached; batch calls come at night as well.
"""

import argparse
import math
import random
import sys

START = 1_793_491_200  # 2026-11-01T00:00:00Z, a Sunday


def demand(second: float) -> float:
    """Demand relative to its mean over the week."""
    day = second / 86_400.0
    of_day = 1.0 + 0.8 * math.sin(2.0 * math.pi * (day - 0.33))
    weekend = 0.5 if int(day) % 7 in (0, 6) else 1.0
    return of_day * weekend / (6.0 / 7.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=30_000_000, help="how many requests")
    parser.add_argument("--days", type=float, default=30.0, help="over how many days")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another month")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    mean = arguments.rows / (arguments.days * 86_400.0)
    write = sys.stdout.write
    write("time,model,input,output,cached,class,cap,consumer\n")
    second, rate, until = 0.0, mean, 0.0
    for _ in range(arguments.rows):
        if second >= until:
            rate, until = mean * demand(second), second + 60.0
        second += rng.expovariate(rate)
        kind, size, length = rng.random(), rng.random(), rng.random()
        if kind < 0.7:
            prompt, cached, output, group, cap = 100 + int(900 * size), 0, 30 + int(220 * length), "interactive", 600
        elif kind < 0.9:
            prompt = 4_000 + int(12_000 * size)
            cached, output, group, cap = prompt * 9 // 10, 60 + int(300 * length), "standard", 1_000
        else:
            prompt, cached, output, group, cap = 800 + int(2_000 * size), 0, 80 + int(300 * length), "batch", ""
        consumer = int(rng.random() * 200)
        write(f"{START + second:.3f},gpt-5.1,{prompt},{output},{cached},{group},{cap},team-{consumer}\n")


if __name__ == "__main__":
    main()
