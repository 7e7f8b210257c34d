"""Documentation that cannot go stale unseen: generated pages, commands shown, targets and drivers named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PAGES = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob("plugins/*/README.md")]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*##", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))


def gen(*arguments: str, docs: Path = CHECKOUT / "docs") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(docs / "gen.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_reference_pages_are_what_the_code_says():
    done = gen("--check")
    assert done.returncode == 0, done.stderr


def test_a_stale_page_is_noticed(tmp_path):
    (tmp_path / "gen.py").write_text((CHECKOUT / "docs" / "gen.py").read_text())
    assert gen(docs=tmp_path).returncode == 0
    assert gen("--check", docs=tmp_path).returncode == 0
    with open(tmp_path / "hooks.md", "a") as page:
        page.write("stale\n")
    done = gen("--check", docs=tmp_path)
    assert (done.returncode, done.stderr) == (1, "docs/hooks.md is not what the code says; run `make docs`\n")


def test_every_block_of_the_readme_is_tested():
    """The kinds of command below; another kind would be a promise that nothing keeps."""
    assert len(BLOCKS) == 6
    assert all(block.startswith(("make ", "plugrun ", "pip install ./core ./plugins/* .\n")) for block in BLOCKS)


def test_make_targets_in_the_docs_exist():
    named = {target for page in PAGES for target in re.findall(r"`?make ([a-z-]+)[`\s]", page.read_text())}
    prose = {"a", "sure", "it", "its", "their", "the", "sense"}
    assert {"demo", "test"} <= named
    assert named - prose <= make_targets()


def test_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_readme_names_every_driver():
    table = (CHECKOUT / "docs" / "drivers.md").read_text()
    drivers = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| `.*? \|", README, re.MULTILINE))))
    assert named == drivers


@pytest.mark.root
def test_commands_of_the_readme_work(private_root, plugrun, busybox_archive):
    script = "\n".join(block for block in BLOCKS if block.startswith("plugrun "))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    roots = {"PLUGRUN_ROOT": str(private_root.root), "PLUGRUN_RUNROOT": str(private_root.run_root)}
    done = subprocess.run(
        ["sh", "-euxc", script],
        cwd=CHECKOUT,
        env={**os.environ, **roots, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "hello" in lines
    assert any(line.startswith("uid=0") for line in lines)
    assert "lo" in lines


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_network_driver_of_the_docs_passes_the_kit(tmp_path):
    """But for the cases about faults, which take long with a driver that runs so many programs."""
    text = (CHECKOUT / "docs" / "network-drivers.md").read_text()
    blocks = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in blocks] == ["pairs.py", "test_pairs.py"]
    for name, block in blocks:
        (tmp_path / name).write_text(block)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not any_step", "--basetemp=t"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= 30, done.stdout
