"""Run every benchmark, one after the other, each in its own process; then draw the plots.

python -m benchmarks
"""

import subprocess
import sys

ALL = (
    *("gate", "quality", "engine", "avx2", "embeddinggemma2", "contention"),
    *("serving", "memory", "fairness", "sizing", "bulk", "table", "plots"),
)

if __name__ == "__main__":
    for name in ALL:
        print(f"--- {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
