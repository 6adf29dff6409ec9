"""Make the environments of the tools we measure ourselves against, one each, because they clash.

    python benchmarks/peers/make_peers.py build/peers

Each `NAME.txt` beside this file pins one environment, which goes to `build/peers/NAME`. What was there
already stays as it is: remove the folder to make it again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the environments go")
    folder = parser.parse_args().folder
    for pins in sorted(Path(__file__).parent.glob("*.txt")):
        target = folder / pins.stem
        if (target / "pins.txt").is_file() and (target / "pins.txt").read_text() == pins.read_text():
            print(f"{target} is there")
            continue
        print(f"making {target} ...", flush=True)
        venv.create(target, with_pip=True, clear=True)
        python = str(target / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", str(pins)], check=True)
        (target / "pins.txt").write_text(pins.read_text())  # written last: marks the environment as whole
    return 0


if __name__ == "__main__":
    sys.exit(main())
