"""The pages say what the code does: verbs, options, settings, targets, links; and what it is not for."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from typer.testing import CliRunner

from caretrace import config
from caretrace.apps import APPS, load_application
from caretrace.apps.mortality.config import MortalityConfig
from caretrace.cli import VERBS, build_app
from caretrace.cohort.task import parse_task
from caretrace.errors import ConfigError
from caretrace.hospital import HospitalConfig
from caretrace.ingest import catalogue, ingest, sources

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "src/caretrace/apps/mortality/README.md",
    ROOT / "src/caretrace/apps/vitals/README.md",
]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
# Sources and backbones that the pages invent to explain how one is added.
INVENTED = {"my-hospital", "running_mean"}


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name.
    importlib.sys.modules[name] = module  # type: ignore[attr-defined]
    spec.loader.exec_module(module)
    return module


cli_reference = script("cli_reference")
settings_reference = script("settings_reference")


def commands(page: Path) -> Iterator[tuple[str, bool]]:
    """Every `caretrace …` of a page, and whether it stands alone, so that it must be complete."""
    for line in page.read_text(encoding="utf-8").splitlines():
        block = re.match(r"\s*(?:\$ )?(caretrace \S.*)$", line)
        if block and "`" not in line:
            yield block[1], True
        else:
            yield from ((command, False) for command in re.findall(r"`(caretrace [^`]+)`", line))


COMMANDS = [(name, *found) for page, name in zip(PAGES, IDS, strict=True) for found in commands(page)]


def problems(command: str, complete: bool = True) -> list[str]:
    """What is wrong with a command line, as far as the declarations of the verbs can tell."""
    words = shlex.split(command, comments=True)[1:]
    if words in (["--help"], ["--version"]) or words[0] == "VERB":
        return []
    verbs = cli_reference.verbs()
    if words[0] not in verbs:
        return [f"no verb {words[0]!r}"]
    verb, found, positional = verbs[words[0]], [], []
    by_name = {name: parameter for parameter in verb.parameters for name in parameter.names}
    given, rest = set(), iter(words[1:])
    for word in rest:
        if word == "--" and words[0] == "bench":
            break  # what follows is for the benchmark itself
        if word in ("[OPTIONS]", "--help") or not word.startswith("-"):
            positional += [] if word in ("[OPTIONS]", "--help") else [word]
            continue
        if word not in by_name:
            found.append(f"no option {word}")
            continue
        given.add(by_name[word].names)
        value = "" if by_name[word].flag else next(rest, None)
        if value is None:
            found.append(f"{word} needs a value")
        elif word == "--set":
            found += setting_problems(words[0], positional[0] if positional else "mortality", value)
    arguments = [parameter for parameter in verb.parameters if not parameter.is_option]
    if len(positional) > len(arguments) and not any(parameter.many for parameter in arguments):
        found.append(f"{len(positional)} arguments for {len(arguments)}")
    least = sum(parameter.required for parameter in arguments)
    if complete and len(positional) < least:
        found.append(f"{len(positional)} arguments, at least {least}")
    if complete:
        options = [parameter for parameter in verb.parameters if parameter.is_option and parameter.required]
        found += [f"{p.names[0]} is missing" for p in options if p.names not in given]
    if words[0] == "ingest" and positional:
        known = {source.name for source in sources()} | INVENTED | {"SOURCE"}
        found += [] if positional[0] in known else [f"no source {positional[0]!r}"]
    return found


def setting_problems(verb: str, application: str, text: str) -> list[str]:
    settings = application if application in APPS else "mortality"
    try:
        config.load(
            HospitalConfig if verb == "simulate" else load_application(settings).config_class, None, [text]
        )
    except ConfigError as error:
        return [str(error)]
    return []


@pytest.mark.parametrize(("page", "command", "complete"), COMMANDS, ids=[f"{c[0]}: {c[1]}" for c in COMMANDS])
def test_every_command_of_the_pages_exists(page: str, command: str, complete: bool) -> None:
    assert problems(command, complete) == []


def test_the_commands_are_found_and_wrong_ones_would_be_noticed() -> None:
    assert len(COMMANDS) > 40
    assert problems("caretrace frobnicate x") == ["no verb 'frobnicate'"]
    assert problems("caretrace ingest physionet-2012 raw out --fast") == ["no option --fast"]
    assert problems("caretrace ingest physionet-2012 raw") == ["2 arguments, at least 3"]
    assert problems("caretrace ingest physionet-2012 raw", complete=False) == []
    assert problems("caretrace train mortality data") == ["--out is missing"]
    assert problems("caretrace ingest mimic-v raw out") == ["no source 'mimic-v'"]
    assert "d_modell" in problems("caretrace train mortality D --out R --set d_modell=3")[0]
    assert problems("caretrace report a b") == ["2 arguments for 1"]


@pytest.mark.parametrize("verb", VERBS)
def test_the_declared_options_are_those_of_help(verb: str) -> None:
    result = CliRunner().invoke(build_app(), [verb, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 0
    # The table of options, not the examples above it.
    shown = set(re.findall(r"^[│|*\s]*(--[a-z][a-z-]*)", result.output, re.MULTILINE)) - {"--help"}
    declared = {name for name in cli_reference.verbs()[verb].options if name.startswith("--")}
    assert shown == declared


@pytest.mark.parametrize(
    ("page", "module"),
    [("cli.md", cli_reference), ("settings.md", settings_reference)],
    ids=["cli", "settings"],
)
def test_generated_pages_are_up_to_date(page: str, module: ModuleType) -> None:
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == module.render(), "run `make reference`"


@pytest.mark.parametrize("settings", [MortalityConfig, HospitalConfig])
def test_every_setting_is_explained(settings: type) -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for setting in settings_reference.settings(settings):
        assert setting.meaning, f"{setting.name} has no line under Args and no comment"
        assert f"| `{setting.name}` | `{setting.default}` | {setting.meaning} |" in page


def test_settings_inside_settings_are_found() -> None:
    names = {setting.name for setting in settings_reference.settings(MortalityConfig)}
    fields = {field.name for field in dataclasses.fields(MortalityConfig)} - {"training"}
    assert fields < names
    assert "training.members" in names


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_make_target_of_the_pages_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z]+) \?=", makefile, re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    for line in re.findall(r"`(?:[A-Z_]+=\S+ )?make ([^`]+)`", text) + re.findall(
        r"^(?:[A-Z_]+=\S+ )?make (.+?)(?: +#.*)?$", text, re.MULTILINE
    ):
        for word in line.split():
            name, _, value = word.partition("=")
            assert name in (variables if value else targets), f"make {line}"


def slugs(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_between_pages_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), target
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        assert not anchor or anchor in slugs(linked), target


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_page_says_what_it_is_not_for(page: Path) -> None:
    text = page.read_text(encoding="utf-8").lower()
    assert "research use only" in text
    assert "bedside" in text


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert f": {page.relative_to(ROOT / 'docs').as_posix()}" in navigation


def test_the_tree_of_the_readme_is_the_tree() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text.partition("src/caretrace/\n")[2].partition("```")[0]
    named = set(re.findall(r"^  ([\w./]+)", tree, re.MULTILINE))
    for name in named:
        assert (ROOT / "src/caretrace" / name).exists(), name
    rooms = {
        path.name + "/" for path in (ROOT / "src/caretrace").iterdir() if (path / "__init__.py").exists()
    }
    files = {path.name for path in (ROOT / "src/caretrace").glob("[a-z]*.py")}
    # `apps/` stands there by its applications; `explain/` is empty so far.
    assert rooms | files <= {*named, "apps/", "explain/"}


@pytest.mark.filterwarnings("ignore")  # mkdocs is somebody else's code
def test_the_built_pages_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    mkdocs = pytest.importorskip("mkdocs.commands.build", reason="needs the extra `docs`")
    from mkdocs.config import load_config

    loaded = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path))
    mkdocs.build(loaded)
    for page in tmp_path.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", html):
            if 'rel="canonical"' not in tag:
                assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", tag), f"{page.name}: {tag}"
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8"))


def test_constraints_pin_every_requirement_once_and_name_no_place() -> None:
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines)
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = re.findall(
        r'^ {4}"([\w-]+)(?:\[\w+\])?[<>=]', project.partition("[project.scripts]")[0], re.MULTILINE
    )
    known = {name.lower().replace("_", "-") for name in pins}
    assert len(wanted) > 15
    for name in wanted:
        assert name.lower().replace("_", "-") in known, name


def block(page: str, language: str, number: int = 0) -> str:
    """The text of one code block of a page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[number]


def test_the_task_of_the_cohort_page_is_a_task() -> None:
    task = parse_task(yaml.safe_load(block("cohort.md", "yaml")), "example", "docs/cohort.md")
    assert task.label_window.label == "death"
    with_landmarks = yaml.safe_load(block("cohort.md", "yaml")) | yaml.safe_load(
        block("cohort.md", "yaml", 1)
    )
    windows = yaml.safe_load(block("cohort.md", "yaml"))["windows"] | with_landmarks["windows"]
    assert parse_task(with_landmarks | {"windows": windows}, "example", "docs/cohort.md").landmarks == (
        "24h",
        "48h",
    )


def test_the_mapping_of_the_dataset_page_can_be_read_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sources" / "my_hospital"
    folder.mkdir(parents=True)
    (folder / "events.yaml").write_text(block("add-a-dataset.md", "yaml"), encoding="utf-8")
    (folder / "predicates.yaml").write_text(block("add-a-dataset.md", "yaml", 1), encoding="utf-8")
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "patients.csv").write_text("patient,sex,born\n1,F,1950-01-01\n2,,1960-02-03\n")
    (raw / "stays.csv").write_text(
        "patient,unit,arrived,left,died\n1,A,2020-01-01 08:00,2020-01-05 09:00,1\n"
    )
    (raw / "labs.csv").write_text(
        "patient,drawn,resulted,test,value,unit\n1,2020-01-01 09:00,2020-01-01 10:00,lactate,2.5,mmol/L\n"
    )
    monkeypatch.setattr(catalogue, "SOURCES", tmp_path / "sources")
    catalogue.source_mapping.cache_clear()
    try:
        quality = ingest("my-hospital", raw, tmp_path / "dataset")
    finally:
        catalogue.source_mapping.cache_clear()
    assert quality["events"] == 7  # sex, two births, admission, discharge, death, lactate
    assert quality["tables"]["patients"]["flags"]["sex_missing"]["rows"] == 1


def test_the_backbone_of_the_page_keeps_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "running_mean.py"
    path.write_text(block("add-a-backbone.md", "python", 1), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("running_mean", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    backbone = module.RunningMean(d_model=8, n_layers=1, dropout=0.1).eval()
    hidden, padding = torch.randn(3, 5, 8), torch.zeros(3, 5, dtype=torch.bool)
    padding[1, 3:] = True
    out = backbone(hidden, padding)
    changed = hidden.clone()
    changed[1, 3:] = 99.0
    assert torch.equal(backbone(changed, padding), out)
    state = None
    for number in range(5):
        stepped, state = backbone.step(hidden[:, number], state)
        torch.testing.assert_close(stepped[0], out[0, number])
