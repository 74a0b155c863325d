"""How the scripts start and stop: `--help` at once, Ctrl-C and a full disk with one line."""

from __future__ import annotations

import io
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import vilt_prompt
from examples.paper.training import fit, options
from examples.startup import command_line, model_options, ranks
from examples.startup.run_log import RunLog

ROOT = Path(__file__).parents[2]
FULL = Path("/dev/full")  # a file on a disk that is always full


def scripts() -> list[str]:
    """The modules of the examples that are run as scripts."""
    files = [file for file in (ROOT / "examples").rglob("*.py") if 'if __name__ == "__main__":' in file.read_text()]
    return sorted(".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files)


def start(code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("arguments", [*([name] for name in scripts()), ["examples.paper.recognition", "few-shot"]])
def test_help_is_quick(arguments: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", *arguments, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_the_lists_of_choices_are_complete() -> None:
    """They are written again in the options, because importing them takes seconds."""
    assert tuple(sorted(vilt_prompt.METHODS)) == options.METHODS
    assert tuple(fit.PRECISIONS) == options.PRECISIONS


@pytest.mark.parametrize("phase", ["imports", "work", "a process of the loader"])
def test_ctrl_c_is_one_line_and_130(phase: str) -> None:
    code = """
import multiprocessing, os, sys, time
from examples.startup.command_line import before_imports, run_script
sys.argv = ["script.py"]
def stay():
    for _ in range(600):  # Short sleeps: a signal that arrives just before a sleep is handled only after it.
        time.sleep(0.1)
def wait():
    print("ready", flush=True)
    stay()
def worker():
    try:
        wait()
    except KeyboardInterrupt:
        pass
def main():
    if sys.argv[-1] == "a process of the loader":
        process = multiprocessing.get_context("fork").Process(target=worker)
        process.start()
        process.join()  # may end before the script's own signal arrives
        stay()
    else:
        wait()
before_imports(lambda: None)
sys.argv.append(PHASE)
if PHASE == "imports":
    wait()
run_script(main)
"""
    process = start(code.replace("PHASE", repr(phase)))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    for child in Path(children).read_text().split() if Path(children).exists() else []:
        os.kill(int(child), signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "script.py: stopped\n"


def test_the_line_of_ctrl_c_stands_below_a_progress_bar() -> None:
    code = """
import sys, time
from examples.startup.command_line import before_imports, run_script
sys.argv = ["script.py"]
def main():
    from tqdm import tqdm
    with tqdm(total=3):
        print("ready", flush=True)
        for _ in range(600):
            time.sleep(0.1)
before_imports(lambda: None)
run_script(main)
"""
    process = start(code)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.endswith("\nscript.py: stopped\n")


def test_an_interrupted_script_exits_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["script.py"])
    with pytest.raises(SystemExit) as ended:
        command_line.run_script(main)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "script.py: stopped\n"


def write_text() -> None:
    with FULL.open("w") as file:
        file.write("row")


def write_checkpoint() -> None:
    with FULL.open("wb") as file:
        torch.save({"weights": torch.zeros(100_000)}, file)


def write_picture() -> None:
    Image.new("RGB", (500, 500)).save(FULL, "PNG")


@pytest.mark.skipif(not FULL.exists(), reason="has no /dev/full")
@pytest.mark.parametrize("write", [write_text, write_checkpoint, write_picture])
def test_a_full_disk_is_one_line(write: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py"])
    with pytest.raises(SystemExit, match=r"^script.py: error: the disk.* is full: make room, or choose another --out$"):
        command_line.run_script(write)


def test_the_disk_that_tensors_do_not_fit_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors reports a full disk with a class of its own."""

    def main() -> None:
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(sys, "argv", ["script.py"])
    with pytest.raises(SystemExit, match="^script.py: error: the disk is full: make room, or choose another --out$"):
        command_line.run_script(main)


def test_a_full_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB.")

    monkeypatch.setattr(sys, "argv", ["script.py"])
    with pytest.raises(SystemExit, match="^script.py: error: out of memory: lower --frames-per-chunk, --micro-batch"):
        command_line.run_script(main)


def test_other_errors_keep_their_traceback() -> None:
    def main() -> None:
        raise RuntimeError("a mistake in the program")

    with pytest.raises(RuntimeError, match="a mistake in the program"):
        command_line.run_script(main)


def test_workers_default_to_the_cores_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)), raising=False)
    assert model_options.cores() == 12
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # torchrun started 4 processes on this machine
    assert model_options.cores() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert model_options.cores() == 1


def test_news_is_printed_by_the_first_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        command_line.announce(f"said by {rank}")
    command_line.announce(None)
    assert capsys.readouterr().out == "said by 0\n"


def test_a_device_that_is_not_there_is_a_clear_error_under_torchrun_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "99")
    with pytest.raises(ValueError, match="^--device cuda:99 cannot be used: .*; choose cpu, or cuda where there is"):
        ranks.start("cuda")


def test_a_line_is_printed_once_where_a_library_set_up_logging(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As open_clip does, whose `logging.info` gives the root logger a handler that prints."""
    printed = io.StringIO()
    handler = logging.StreamHandler(printed)
    logging.getLogger().addHandler(handler)
    try:
        with RunLog() as log:
            command_line.announce("2 videos are missing")
            log.open(tmp_path / "log.txt")
    finally:
        logging.getLogger().removeHandler(handler)
    assert (printed.getvalue(), capsys.readouterr().out) == ("", "2 videos are missing\n")
    assert (tmp_path / "log.txt").read_text().endswith(" 2 videos are missing\n")
