"""The kernel on processors that the tests do not run on: by a cross compiler and an emulator, where there are any."""

import shutil
import subprocess
from pathlib import Path

import pytest

KERNEL = Path(__file__).parents[2] / "src" / "probface" / "match" / "kernel"
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64-static"


def compiled(folder: Path, compiler: str, flags: dict[str, list[str]], *links: str) -> Path:
    objects = []
    for source in (*sorted(KERNEL.glob("*.cpp")), Path(__file__).with_name("kernel_check.cpp")):
        if source.name == "bindings.cpp":
            continue
        made = folder / (source.stem + ".o")
        strict = "off" if source.stem in ("search", "pack", "kernel_check") else "fast"
        options = ["-std=c++17", "-O2", f"-ffp-contract={strict}", "-Wno-psabi", "-I", str(KERNEL)]
        options += flags.get(source.stem, [])
        subprocess.run([compiler, "-c", *options, str(source), "-o", str(made)], check=True)
        objects.append(str(made))
    program = folder / "kernel_check"
    subprocess.run([compiler, *objects, *links, "-pthread", "-o", str(program)], check=True)
    return program


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which(COMPILER) and shutil.which(EMULATOR)), reason=f"needs {COMPILER} and {EMULATOR}")
def test_arm_finds_what_float64_finds(tmp_path: Path) -> None:
    flags = {"neon_dotprod": ["-march=armv8.2-a+dotprod"]}
    program = compiled(tmp_path, COMPILER, flags, "-static")
    ended = subprocess.run([EMULATOR, "-cpu", "max", str(program)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "neon-dotprod baseline" in ended.stdout
    assert ", 0 wrong" in ended.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_the_kernel_is_sound_memory_and_threads_included(tmp_path: Path) -> None:
    checked = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = [path.stem for path in KERNEL.glob("*.cpp")] + ["kernel_check"]
    flags = {stem: list(checked) for stem in sources}
    flags["avx2"] += ["-mavx2", "-mfma"]
    flags["avx_vnni"] += ["-mavx2", "-mfma", "-mavxvnni"]
    flags["avx512_vnni"] += ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mfma"]
    program = compiled(tmp_path, "g++", flags, *checked)
    ended = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ", 0 wrong" in ended.stdout
