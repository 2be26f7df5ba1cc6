"""`qwenkit doctor`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from qwenkit.cli import console
from qwenkit.doctor import fit, machine, software
from qwenkit.errors import InvalidSettings
from qwenkit.settings import Settings

app = typer.Typer()

GIB = 2**30


@dataclass(frozen=True, slots=True)
class SettingInEffect:
    """A setting, its value with secrets masked, and where it comes from."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that `qwenkit doctor` finds out."""

    qwenkit: str
    python: str
    cpu: machine.Cpu
    memory: machine.Memory
    gpus: list[machine.Gpu]
    runtime: software.Runtime
    extras: list[software.Extra]
    settings: list[SettingInEffect]
    fits: list[fit.Fit]
    suggestion: str
    port_is_free: bool | None
    problems: list[str]


@app.command()
def doctor(
    *, json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False
) -> None:
    """Say what this machine can run, and what is missing.

    Ends with exit code 1 when something is broken; a missing extra or GPU is not.
    """
    found = diagnose()
    if json:
        console.print_json(asdict(found))
    else:
        _show(found)
    for problem in found.problems:
        console.note(f"problem: {problem}")
    if found.problems:
        raise typer.Exit(1)


def diagnose() -> Diagnosis:
    """Look at everything."""
    runtime, memory, gpus = software.runtime(), machine.memory(), machine.gpus()
    problems = [runtime.problem] if runtime.problem else []
    free_on_gpu = max((gpu.free_bytes for gpu in gpus), default=0) if runtime.gpu_offload else 0
    try:
        settings = Settings.load()
    except InvalidSettings as exc:
        problems.append(exc.message)
        settings = None
    return Diagnosis(
        qwenkit=software.qwenkit(),
        python=software.python(),
        cpu=machine.cpu(),
        memory=memory,
        gpus=gpus,
        runtime=runtime,
        extras=software.extras(),
        settings=settings_in_effect(settings) if settings else [],
        fits=fit.fits(max(memory.available_bytes, free_on_gpu)),
        suggestion=fit.suggestion(memory.available_bytes, free_on_gpu),
        port_is_free=_port_is_free(settings) if settings else None,
        problems=problems,
    )


def _port_is_free(settings: Settings) -> bool:
    return software.port_is_free(settings.host, settings.port)


def settings_in_effect(settings: Settings) -> list[SettingInEffect]:
    """All settings, where they come from, without secrets."""
    environment = EnvSettingsSource(Settings)()
    dotenv = DotEnvSettingsSource(Settings)()

    def source(name: str) -> str:
        return "environment" if name in environment else ".env" if name in dotenv else "default"

    return [
        SettingInEffect(name.upper(), masked(getattr(settings, name)), source(name))
        for name in Settings.model_fields
    ]


def masked(value: Any) -> str:
    """A setting's value as it may be shown."""
    match value:
        case None:
            return ""
        case SecretStr():
            return "***"
        case tuple():
            return ", ".join(map(masked, value))
        case _:
            return re.sub(r"//[^/@]+@", "//***@", str(value))  # a password in a URL


def _show(found: Diagnosis) -> None:
    console.table("This machine", ["", ""], list(_machine_rows(found)))
    console.table(
        "Qwen3-8B with 32k tokens of context",
        ["Format", "Weights", "In all", "Fits", "Longest context here"],
        [_fit_row(each) for each in found.fits],
    )
    console.line(f"Try: {found.suggestion}\n")
    extras = [_extra_row(each) for each in found.extras]
    if extras:
        console.table("Extras", ["Extra", "Installed", "To install"], extras)
    given = [each for each in found.settings if each.source != "default"]
    if given:
        rows = [(each.name, each.value, each.source) for each in given]
        console.table("Settings that are not at their defaults", ["Name", "Value", "From"], rows)
    else:
        console.line("All settings are at their defaults.")


def _machine_rows(found: Diagnosis) -> Iterator[tuple[str, str]]:
    cpu, memory, runtime = found.cpu, found.memory, found.runtime
    yield "qwenkit", found.qwenkit
    yield "Python", found.python
    yield "CPU", cpu.model
    yield "", ", ".join(cpu.features) or "none of the instructions that speed inference up"
    yield "Cores", f"{cpu.n_physical} ({cpu.n_logical} threads), {cpu.n_usable} usable here"
    limit = " (the container's limit)" if memory.limit_bytes else ""
    yield "Memory", f"{_gib(memory.available_bytes)} free of {_gib(memory.total_bytes)}{limit}"
    for gpu in found.gpus:
        yield "GPU", f"{gpu.name}, {_gib(gpu.free_bytes)} free of {_gib(gpu.total_bytes)}"
    if not found.gpus:
        yield "GPU", "none that NVIDIA's driver knows"
    offload = "with GPU offload" if runtime.gpu_offload else "for the CPU only"
    yield "llama.cpp", f"llama-cpp-python {runtime.version or 'missing'}, built {offload}"
    if runtime.features:
        yield "", f"uses {', '.join(runtime.features)}"
    if runtime.breaks_amx:
        yield "", "AMX goes unused, since the compiler that built it breaks it: with g++ 12.4,"
        yield "", "  13.3, 14.1 or newer pip install --force-reinstall --no-cache-dir --no-deps"
        yield "", "  llama-cpp-python"
    if found.port_is_free is False:
        yield "Port", "taken: the PORT to serve on is in use"
    if found.gpus and not runtime.gpu_offload:
        yield "", "to use the GPU: CMAKE_ARGS=-DGGML_CUDA=on pip install --force-reinstall "
        yield "", "  --no-cache-dir --no-deps llama-cpp-python"


def _fit_row(each: fit.Fit) -> tuple[str, str, str, str, str]:
    longest = f"{each.n_ctx_max:,} tokens" if each.n_ctx_max else "none"
    fits = "yes" if each.fits else "no"
    return each.quant, _gib(each.weights_bytes), _gib(each.total_bytes), fits, longest


def _extra_row(extra: software.Extra) -> tuple[str, str, str]:
    if extra.installed:
        return extra.name, "yes", ""
    return extra.name, f"no: {', '.join(extra.missing)}", f"pip install 'qwenkit[{extra.name}]'"


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / GIB:.1f} GiB"
