"""The whole hospital in one folder: stays at its top, and beneath it histories, monitors and operations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from caretrace.config import to_dict
from caretrace.files import whole_folder, write_json
from caretrace.hospital.config import HospitalConfig, Part
from caretrace.hospital.histories import simulate_histories
from caretrace.hospital.operations import simulate_operations
from caretrace.hospital.physiology import simulate_vitals
from caretrace.hospital.simulation import write_stays

Progress = Callable[[str, float, float], None]

# The folder of each part below the one asked for; stays lie at the top. `vitals.csv` is the stays' own, hence
# `monitors`: a folder of that name would be taken for the same table.
FOLDERS: dict[Part, str] = {
    "stays": "", "histories": "histories", "vitals": "monitors", "operations": "operations",
}  # fmt: skip
# The source that reads each part.
SOURCES: dict[Part, str] = {
    "stays": "hospital", "histories": "hospital-histories", "vitals": "hospital-vitals",
    "operations": "hospital-operations",
}  # fmt: skip

TITLE = """# A simulated hospital

Everything in this folder is simulated by `caretrace simulate`; no real person is in here, and no figure
from it says anything about real patients. The settings are in `simulation.json`.
"""
MORE = """
Each part is a hospital's own export, about people of its own, and is ingested by a command of its own:

"""
LINES: dict[Part, str] = {
    "stays": "- here: ICU stays; `caretrace ingest hospital <this folder> <dataset>`\n",
    "histories": "- `histories/`: visits with ICD-9-CM diagnoses; `caretrace ingest hospital-histories "
    "<this folder>/histories <dataset>`\n",
    "vitals": "- `monitors/`: vital signs; `caretrace ingest hospital-vitals <this folder>/monitors <dataset>`\n",
    "operations": "- `operations/`: ambulances, emergency departments and staff of a city; `caretrace ingest "
    "hospital-operations <this folder>/operations <dataset>`\n",
}


def simulate_parts(out: Path, config: HospitalConfig, progress: Progress | None = None) -> dict[str, int]:
    """Simulate the parts of the hospital that `config.parts` names, and write them to one folder.

    The same config writes the same bytes, and each part those that it writes when asked for alone.

    Args:
        out: Folder to make; it appears whole or not at all.
        config: What to simulate.
        progress: Called with the part, how much of it is done, and how much there is (people or days).

    Returns:
        Rows written, per file path relative to `out`.

    Raises:
        OutputExistsError: `out` exists and is not an empty folder.
    """
    rows: dict[str, int] = {}
    with whole_folder(out) as folder:
        for part in (p for p in FOLDERS if p in config.parts):
            total = {"vitals": config.monitors.people, "operations": config.days}.get(part, config.subjects)
            own = _write(part, folder / FOLDERS[part], config, _counted(part, total, progress))
            rows |= {str(Path(FOLDERS[part]) / name): count for name, count in own.items()}
        if set(config.parts) != {"stays"}:
            page = folder / "README.md"
            top = page.read_text(encoding="utf-8") if page.exists() else TITLE
            lines = "".join(line for part, line in LINES.items() if part in config.parts)
            page.write_text(top + MORE + lines, encoding="utf-8")
            write_json(folder / "simulation.json", to_dict(config))
    return rows


def _write(
    part: Part, folder: Path, config: HospitalConfig, progress: Callable[[float], None]
) -> dict[str, int]:
    if part == "stays":
        return write_stays(folder, config, progress)
    if part == "histories":
        return simulate_histories(folder, config.subjects, config.seed, progress=progress)
    if part == "vitals":
        return simulate_vitals(folder, config.monitors.physiology(config.days, config.seed), progress)
    return simulate_operations(folder, config.operations, config.days, config.seed, progress)


def _counted(part: Part, total: float, progress: Progress | None) -> Callable[[float], None]:
    done = 0.0

    def advance(amount: float) -> None:
        nonlocal done
        done += amount
        if progress is not None:
            progress(part, done, total)

    return advance
