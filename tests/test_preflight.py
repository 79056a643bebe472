"""The doctor answers on a bare Python, never crashes, and says what to do about whatever it does not like."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings, strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from pretended_versions import install_versions

from aigc_helpers import preflight
from aigc_helpers.paths import REPOSITORY
from aigc_helpers.preflight import Check, exit_code, format_report, report_as_json, run_checks
from aigc_helpers.store import store_folder
from aigc_helpers.versions import satisfies, version_key

GIGABYTE = 10**9
posix_only = pytest.mark.skipif(os.name == "nt", reason="the stubs are shell scripts")


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, no settings of the person who runs the tests, and an empty home with no program on the path."""
    for variable in list(os.environ):
        if variable.startswith(("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "AIGC_", "XDG_")) or variable.lower().endswith(
            "_proxy"
        ):
            monkeypatch.delenv(variable)
    home, programs = tmp_path / "home", tmp_path / "programs"
    home.mkdir()
    programs.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("LOCALAPPDATA", str(home / "AppData" / "Local"))
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def install_stub(tmp_path: Path, name: str, script: str) -> None:
    stub = tmp_path / "programs" / name
    stub.write_text(f"#!/bin/sh\n{script}\n")
    stub.chmod(0o755)


def check_named(name: str) -> Check:
    (check,) = (check for check in run_checks() if check.name == name)
    return check


# The whole report


def assert_has_remedies(checks: list[Check]) -> None:
    for check in checks:
        assert check.found, check
        if check.status != "pass":
            assert check.remedy_en.strip(), check
            assert any("\u4e00" <= letter <= "\u9fff" for letter in check.remedy_zh), check


def test_every_warning_and_failure_says_what_to_do_in_both_languages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "memory.max").write_text(str(2 * GIGABYTE))
    monkeypatch.setattr(preflight, "CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    monkeypatch.setattr(sys, "version", "3.8.18 (default)")
    monkeypatch.setenv("AIGC_PROFILE", "fulll")
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "file" / "below"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file" / "below"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "no address")
    install_versions(monkeypatch, torch=None, numpy="1.26.4", jupytext=None, nbformat="4.0", scipy="unreadable")
    checks = run_checks()
    troubled = {check.name for check in checks if check.status != "pass"}
    expected = {"Python", "profile", "torch", "numpy", "scipy", "extra: book", "installed models", "hub cache", "hub"}
    assert expected | {"disk"} <= troubled
    assert_has_remedies(checks)


def test_a_check_that_breaks_is_a_warning_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> None:
        raise PermissionError("no entry")

    names_before = [check.name for check in run_checks()]
    monkeypatch.setattr(shutil, "disk_usage", broken)
    checks = run_checks()
    assert {check.name for check in checks} == set(names_before)
    (disk,) = (check for check in checks if check.name == "disk")
    assert disk.status == "warn"
    assert "no entry" in disk.found
    assert_has_remedies(checks)


def test_bare_python_gets_a_report_without_any_third_party_import() -> None:
    script = (
        "import sys\n"
        "from aigc_helpers.preflight import exit_code, report_as_json, run_checks\n"
        "checks = run_checks()\n"
        "imported = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(imported - set(sys.stdlib_module_names) - {'aigc_helpers', '__main__', '__mp_main__'}))\n"
        "print(report_as_json(checks))\n"
        "sys.exit(exit_code(checks))\n"
    )
    # -S leaves out site-packages, which makes any Python a Python with nothing installed.
    finished = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
    )
    assert finished.returncode == 1, finished.stderr
    imported, _, report = finished.stdout.partition("\n")
    assert imported == "[]"
    checks = {check["name"]: check for check in json.loads(report)["checks"]}
    assert checks["torch"]["status"] == "fail"
    assert checks["torch"]["found"].startswith("not installed")
    assert "python workbook.py run" in checks["torch"]["remedy_en"]
    assert "python workbook.py run" in checks["torch"]["remedy_zh"]
    assert checks["extra: book"]["status"] == "warn"
    assert checks["Python"]["status"] == "pass"


def test_doctor_is_quick() -> None:
    def seconds() -> float:
        started = time.perf_counter()
        run_checks()
        return time.perf_counter() - started

    # The best of three: a busy machine slows one run down, a slow doctor all of them.
    assert min(seconds() for _ in range(3)) < 2


checks_of_any_kind = st.lists(
    st.builds(
        Check,
        name=st.sampled_from(["torch", "disk", "Chinese font"]),
        status=st.sampled_from(["pass", "warn", "fail"]),
        found=st.sampled_from(["2.13.0", "none"]),
        remedy_en=st.sampled_from(["Do this.", "Do that."]),
        remedy_zh=st.sampled_from(["这样做。", "那样做。"]),
    )
)


@settings(deadline=None)
@given(checks_of_any_kind)
def test_json_counts_what_it_lists_and_the_exit_code_agrees(checks: list[Check]) -> None:
    report = json.loads(report_as_json(checks))
    assert [Check(**entry) for entry in report["checks"]] == checks
    statuses = [entry["status"] for entry in report["checks"]]
    assert report["summary"] == {status: statuses.count(status) for status in ("pass", "warn", "fail")}
    assert exit_code(checks) == (1 if report["summary"]["fail"] else 0)


def test_report_is_aligned_and_puts_remedies_below_the_checks_they_belong_to() -> None:
    checks = [
        Check("Python", "pass", "3.13.0"),
        Check("torch", "fail", "not installed", "Install it.", "请安装。"),
        Check("transformers", "fail", "not installed", "Install it.", "请安装。"),
        Check("hub", "warn", "no answer", "Use a mirror.", "请用镜像。"),
    ]
    assert format_report(checks).splitlines() == [
        "✓ pass  Python        3.13.0",
        "✗ fail  torch         not installed",
        "✗ fail  transformers  not installed",
        "        → Install it.",
        "        → 请安装。",
        "! warn  hub           no answer",
        "        → Use a mirror.",
        "        → 请用镜像。",
        "",
        "4 checks: 1 pass, 1 warn, 2 fail · 共 4 项：通过 1，警告 1，失败 2",
    ]


# Versions

# Small numbers, so that two versions are often equal or close; and some of two digits, which sort otherwise as text.
numbers = st.sampled_from([0, 0, 1, 2, 9, 10, 26])
releases = st.lists(numbers, min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
versions = st.builds(
    "{}{}{}{}{}".format,
    releases,
    st.sampled_from(["", "", "a1", "b2", "rc1", "rc2"]),
    st.sampled_from(["", "", "", ".post1"]),
    st.sampled_from(["", "", "", ".dev20260101"]),
    st.sampled_from(["", "", "+cpu", "+cu128"]),
)


@settings(deadline=None)
@given(versions, versions)
def test_versions_sort_as_pip_sorts_them(first: str, second: str) -> None:
    # The local part is how a build is told from another, and no range of ours asks for it.
    public_first, public_second = Version(Version(first).public), Version(Version(second).public)
    assert (version_key(first) < version_key(second)) == (public_first < public_second)
    assert (version_key(first) == version_key(second)) == (public_first == public_second)


@settings(deadline=None)
@given(versions, st.lists(st.tuples(st.sampled_from([">=", "<", "=="]), releases), max_size=3))
def test_ranges_admit_what_pip_admits(version: str, parts: list[tuple[str, str]]) -> None:
    version_range = ",".join(operator + bound for operator, bound in parts)
    assert satisfies(version, version_range) == SpecifierSet(version_range).contains(version, prereleases=True)


@settings(deadline=None)
@given(releases, st.sampled_from(["", "a1", "rc1", ".dev1", ".post1"]), st.sampled_from([">=", "<", "=="]))
def test_ranges_agree_with_pip_at_their_very_bound(release: str, suffix: str, operator: str) -> None:
    version_range = operator + release
    assert satisfies(release + suffix, version_range) == SpecifierSet(version_range).contains(
        release + suffix, prereleases=True
    )


@pytest.mark.parametrize("version_range", ["~=2.0", "2.0", ">2", "==2.*", ">=two"])
def test_a_range_that_is_not_understood_is_refused(version_range: str) -> None:
    with pytest.raises(ValueError, match="no range|no version"):
        satisfies("2.0", version_range)


# Python and packages


def test_python_outside_the_range_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    for version, status in [("3.10.12", "fail"), ("3.11.0", "pass"), ("3.13.9+", "pass"), ("3.14.0rc1", "fail")]:
        monkeypatch.setattr(sys, "version", f"{version} (main, built today)")
        check = check_named("Python")
        assert check.status == status
        assert version in check.found


@pytest.mark.parametrize(
    ("package", "version", "status"),
    [
        ("torch", "2.13.0+cpu", "pass"),
        ("torch", "2.9.1", "fail"),
        ("transformers", "4.57.0", "fail"),
        ("transformers", "6.0.0rc1", "fail"),
        ("ipywidgets", "8.1.9", "pass"),
        ("ipywidgets", "7.7.1", "pass"),
        ("ipywidgets", "7.6.5", "fail"),
        ("ipywidgets", "9.0.0", "fail"),
        ("scipy", "not a version", "warn"),
    ],
)
def test_package_versions(monkeypatch: pytest.MonkeyPatch, package: str, version: str, status: str) -> None:
    install_versions(monkeypatch, **{package: version})
    check = check_named(package)
    assert check.status == status
    assert version in check.found
    if status == "fail":
        assert f'-m pip install "{package}>=' in check.remedy_en
        assert f'-m pip install "{package}>=' in check.remedy_zh


def test_ipywidgets_7_is_said_to_be_what_colab_has(monkeypatch: pytest.MonkeyPatch) -> None:
    install_versions(monkeypatch, ipywidgets="7.7.1")
    assert "Colab" in check_named("ipywidgets").found
    install_versions(monkeypatch, ipywidgets="8.1.9")
    assert "Colab" not in check_named("ipywidgets").found


def test_missing_book_packages_are_a_warning_that_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    install_versions(monkeypatch, jupytext=None, nbclient="0.5.0")
    check = check_named("extra: book")
    assert check.status == "warn"
    assert "not installed: jupytext" in check.found
    assert "nbclient 0.5.0" in check.found
    assert '-m pip install -e ".[book]"' in check.remedy_en


def test_without_a_checkout_the_ranges_come_from_the_installed_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    metadata_folder = tmp_path / "aigc_workbook-0.1.0.dist-info"
    metadata_folder.mkdir()
    (metadata_folder / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: aigc-workbook\nVersion: 0.1.0\nRequires-Python: <3.1,>=3.0\n"
        "Project-URL: Repository, https://github.com/someone/workbook\n"
        "Requires-Dist: torch<1.5,>=1.0\nRequires-Dist: no-such-library<2,>=1\n"
        'Requires-Dist: no-such-package-anywhere<2,>=1; extra == "book"\n'
        'Requires-Dist: pytest<2,>=1; extra == "test"\n'
    )
    for module in ("preflight", "project"):
        monkeypatch.setattr(f"aigc_helpers.{module}.find_checkout", lambda: None)
    monkeypatch.syspath_prepend(str(tmp_path))
    install_versions(monkeypatch, torch="1.4.0")
    checks = {check.name: check for check in run_checks()}
    assert_has_remedies(list(checks.values()))
    assert "git clone https://github.com/someone/workbook" in checks["checkout"].remedy_en
    assert 'pip install "no-such-library<2,>=1"' in checks["no-such-library"].remedy_en
    without_checkout = [check.remedy_en for check in checks.values() if check.name != "checkout"]
    assert not [remedy for remedy in without_checkout if "workbook.py" in remedy or "install -e" in remedy]
    assert checks["Python"].status == "fail"
    assert checks["torch"].status == "pass"
    assert "no-such-package-anywhere" in checks["extra: book"].found
    assert "pytest" not in checks


# The machine


def test_no_gpu_is_fine() -> None:
    check = check_named("GPU")
    assert check.status == "pass"
    assert check.found == "none: the embedded profile runs on the CPU"


@posix_only
def test_gpu_is_named_with_its_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_stub(tmp_path, "nvidia-smi", "echo 'Tesla T4, 15360'; echo 'NVIDIA GB10, [N/A]'")
    install_versions(monkeypatch, torch=None)
    check = check_named("GPU")
    assert check.status == "pass"
    assert check.found == "Tesla T4 (16.1 GB), NVIDIA GB10 (memory unknown)"


@posix_only
@pytest.mark.parametrize(
    ("version", "cuda", "status"),
    [("2.13.0+cpu", "'12.8'", "warn"), ("2.13.0", "None", "warn"), ("2.13.0", "'12.8'", "pass")],
)
def test_gpu_with_a_torch_built_without_cuda_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, cuda: str, status: str
) -> None:
    install_stub(tmp_path, "nvidia-smi", "echo 'Tesla T4, 15360'")
    (tmp_path / "torch-2.13.0.dist-info").mkdir()
    (tmp_path / "torch-2.13.0.dist-info" / "METADATA").write_text(f"Name: torch\nVersion: {version}\n")
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text(f"debug = False\ncuda: Optional[str] = {cuda}\nhip = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    check = check_named("GPU")
    assert check.status == status
    assert check.found.startswith("Tesla T4 (16.1 GB)")
    assert (version in check.found) == (status == "warn")


@posix_only
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'NVIDIA-SMI has failed' >&2; exit 9", "exit status 9 (NVIDIA-SMI has failed)"),
        ("echo 'No devices were found'", "No devices were found"),
        ("exit 0", "no device"),
    ],
)
def test_a_failing_nvidia_smi_is_a_warning(tmp_path: Path, script: str, said: str) -> None:
    install_stub(tmp_path, "nvidia-smi", script)
    check = check_named("GPU")
    assert check.status == "warn"
    assert said in check.found


@pytest.mark.skipif(sys.platform == "win32", reason="control groups are Linux's, and os.sysconf is POSIX")
@pytest.mark.parametrize(
    ("physical", "limit", "status", "said"),
    [
        (2, "max", "fail", "2.0 GB"),
        (4, "max", "warn", "4.0 GB"),
        (64, "max", "pass", "64.0 GB"),
        (64, str(2 * GIGABYTE), "fail", "2.0 GB"),
        (64, str(5 * GIGABYTE), "warn", "5.0 GB"),
        (64, str(128 * GIGABYTE), "pass", "64.0 GB"),
    ],
)
def test_memory_is_what_the_machine_and_the_container_allow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, physical: int, limit: str, status: str, said: str
) -> None:
    values = {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": physical * 10**6, "SC_AVPHYS_PAGES": 10**6}
    monkeypatch.setattr(os, "sysconf", values.__getitem__)
    monkeypatch.setattr(preflight, "CONTROL_GROUP", tmp_path)
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text(f"{GIGABYTE}\n")
    check = check_named("memory")
    assert check.status == status
    assert check.found.startswith(said)


@pytest.mark.parametrize(("free", "status"), [(0.5, "fail"), (4.0, "warn"), (5.0, "pass")])
def test_disk_space(monkeypatch: pytest.MonkeyPatch, free: float, status: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=int(free * GIGABYTE)))
    checks = [check for check in run_checks() if check.name == "disk"]
    assert {check.status for check in checks} == {status}
    together = " ".join(check.found for check in checks)
    assert f"{free:.1f} GB free" in together
    for what in ("workbook", "installed models", "hub cache"):
        assert what in together


# Folders


@pytest.mark.parametrize(("variable", "name"), [("AIGC_HOME", "installed models"), ("HF_HOME", "hub cache")])
def test_caches_may_be_absent_or_present_but_must_be_writable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, name: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "caches"))
    before = check_named(name)
    assert before.status == "pass"
    assert "made at the first download" in before.found
    assert not (tmp_path / "caches").exists()

    (tmp_path / "caches" / "hub").mkdir(parents=True)
    assert "writable" in check_named(name).found
    assert list((tmp_path / "caches" / "hub").iterdir()) == []

    (tmp_path / "file").write_text("")
    monkeypatch.setenv(variable, str(tmp_path / "file" / "caches"))
    after = check_named(name)
    assert after.status == ("fail" if variable == "AIGC_HOME" else "warn")
    assert variable in after.remedy_en
    assert variable in after.remedy_zh


def test_hub_cache_follows_the_variables_of_huggingface_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    for variable in (None, "XDG_CACHE_HOME", "HF_HOME", "HUGGINGFACE_HUB_CACHE", "HF_HUB_CACHE"):
        if variable is not None:
            monkeypatch.setenv(variable, str(tmp_path / variable))
        theirs = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        assert check_named("hub cache").found.startswith(theirs.strip() + ",")


def test_store_folder_is_aigc_home_if_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "models"))
    assert store_folder() == tmp_path / "models"
    assert not (tmp_path / "models").exists()
    monkeypatch.setenv("AIGC_HOME", "~/models")
    assert store_folder() == Path.home() / "models"


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.cache/aigc"),
        ("linux", {"XDG_CACHE_HOME": "caches"}, "caches/aigc"),
        ("darwin", {"XDG_CACHE_HOME": "caches"}, "home/Library/Caches/aigc"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/aigc"),
        ("win32", {"LOCALAPPDATA": ""}, "home/AppData/Local/aigc"),
    ],
)
def test_store_folder_is_where_the_system_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, variables: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, str(tmp_path / value) if value else "")
    assert store_folder() == tmp_path / expected
    assert not (tmp_path / expected).exists()


# The hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[http.server.BaseHTTPRequestHandler]]:
    """A hub on the loopback; set ``answer`` to the status it shall answer with."""

    class Hub(http.server.BaseHTTPRequestHandler):
        """Answers every request with the same status."""

        answer = 200

        def do_GET(self) -> None:
            self.send_response(self.answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            """Keep the output of the tests clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("answer", "status"), [(200, "pass"), (401, "pass"), (404, "pass"), (403, "warn"), (407, "warn"), (503, "warn")]
)
def test_a_hub_that_answers_is_reachable(
    hub: type[http.server.BaseHTTPRequestHandler], answer: int, status: str
) -> None:
    hub.answer = answer
    check = check_named("hub")
    assert check.status == status
    assert os.environ["HF_ENDPOINT"] in check.found


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_by_choice_asks_nobody(
    monkeypatch: pytest.MonkeyPatch, hub: type[http.server.BaseHTTPRequestHandler], value: str
) -> None:
    hub.answer = 503
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    check = check_named("hub")
    assert (check.status, check.found) == ("pass", "offline by choice")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert check_named("hub").status == "warn"


def test_a_hub_that_refuses_is_a_quick_warning_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as reserved:
        # Bound but not listening: connections are refused, and nobody else can take the port meanwhile.
        reserved.bind(("127.0.0.1", 0))
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("HF_ENDPOINT", f"http://reader:secret@127.0.0.1:{reserved.getsockname()[1]}")
        started = time.perf_counter()
        checks = run_checks()
    assert time.perf_counter() - started < 5
    (check,) = (check for check in checks if check.name == "hub")
    assert check.status == "warn"
    assert "not reachable" in check.found
    assert "HF_ENDPOINT" in check.remedy_en
    assert "HF_ENDPOINT" in check.remedy_zh
    assert "secret" not in report_as_json(checks)


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(preflight, "HUB_TIMEOUT_SECONDS", 0.3)
        started = time.perf_counter()
        check = check_named("hub")
    assert time.perf_counter() - started < 3
    assert check.status == "warn"


# Fonts


@posix_only
def test_fonts_as_fontconfig_lists_them(tmp_path: Path) -> None:
    install_stub(tmp_path, "fc-list", "test \"$1\" = :lang=zh && echo 'Noto Sans CJK SC,Noto Sans CJK SC Bold'")
    check = check_named("Chinese font")
    assert (check.status, check.found) == ("pass", "Noto Sans CJK SC")

    install_stub(tmp_path, "fc-list", "exit 0")
    check = check_named("Chinese font")
    assert check.status == "warn"
    assert "English" in check.remedy_en


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems come with a Chinese font")
@pytest.mark.parametrize("name", ["Noto Sans CJK Test.ttc", "wqy-test.ttc", "SourceHanSansSC-Test.otf"])
def test_fonts_in_the_usual_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    fonts = Path.home() / ".fonts" / "chinese"
    fonts.mkdir(parents=True)
    (fonts / "DejaVuSans.ttf").touch()
    assert check_named("Chinese font").found != name
    (fonts / name).touch()
    check = check_named("Chinese font")
    assert (check.status, check.found) == ("pass", name)
    # A broken fontconfig is no reason to find nothing.
    install_stub(tmp_path, "fc-list", "exit 1")
    assert check_named("Chinese font").found == name


# The profile


@pytest.mark.parametrize(
    ("value", "status", "nearest"),
    [
        (None, "pass", None),
        ("", "pass", None),
        ("embedded", "pass", None),
        ("full", "pass", None),
        ("fulll", "fail", "full"),
        ("Embeded", "fail", "embedded"),
    ],
)
def test_profile_is_one_that_exists(
    monkeypatch: pytest.MonkeyPatch, value: str | None, status: str, nearest: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv("AIGC_PROFILE", value)
    check = check_named("profile")
    assert check.status == status
    if nearest:
        assert f"AIGC_PROFILE={nearest}?" in check.remedy_en
        assert f"AIGC_PROFILE={nearest}？" in check.remedy_zh
