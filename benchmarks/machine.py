"""The machine and the versions that the results were measured with."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import open_clip
import torch


def describe(device: str) -> dict[str, str | int]:
    """The machine and the versions that a time depends on."""
    found: dict[str, str | int] = {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory_gb": round(physical_memory() / 2**30),
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
        found["gpu_memory_gb"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30)
    return found


def name(machine: dict[str, str | int]) -> str:
    """One line that tells two machines apart.

    >>> name({"cpu": "AMD EPYC", "threads": 2, "torch": "2.6.0"})
    'AMD EPYC, 2 threads, torch 2.6.0'
    """
    first = machine.get("gpu", f"{machine['cpu']}, {machine['threads']} threads")
    return f"{first}, torch {machine['torch']}"


def physical_memory(device: str = "cpu") -> int:
    """Bytes of memory that the device has."""
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
