"""The engine's own filter, instruction by instruction."""

import ctypes
import ctypes.util
import platform

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import EngineLoadError
from appliance.serve import engine_filter
from appliance.serve.engine_filter import ALLOW, KILL, MACHINES, REFUSE, Machine, program

EVERY = pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))
ABSENT = 0x00050000 | 38
THREAD = 0x00010000


def verdict(machine: Machine, number: int, *, audit: int | None = None, first: int = 0) -> int:
    """Run the program as the kernel does."""
    data = {0: number, 4: machine.audit if audit is None else audit, 16: first}
    instructions, at, held = program(machine), 0, 0
    while True:
        code, yes, no, constant = instructions[at]
        if code == 0x06:
            return constant
        if code == 0x20:
            held, at = data[constant], at + 1
            continue
        holds = {0x15: held == constant, 0x35: held >= constant, 0x45: bool(held & constant)}[code]
        at += 1 + (yes if holds else no)


def numbers(machine: Machine) -> dict[str, int]:
    return {name: number for _, name, number in machine.calls()}


@EVERY
def test_programs_processes_and_contacts_are_refused_and_threads_are_not(machine: Machine) -> None:
    found = numbers(machine)

    assert verdict(machine, found["execve"]) == verdict(machine, found["execveat"]) == KILL
    assert verdict(machine, found["clone"], first=0x003D0F00) == ALLOW
    assert verdict(machine, found["clone"], first=17) == REFUSE
    assert verdict(machine, found["clone3"]) == ABSENT
    for name in ("ptrace", "mount", "bpf", "io_uring_setup", "socket", "connect", "process_vm_readv", "memfd_create"):
        assert verdict(machine, found[name]) == REFUSE, name


@EVERY
@given(number=st.integers(0, 0x3FFFFFFF), first=st.integers(0, 2**32 - 1))
def test_what_is_not_in_the_table_is_left_to_the_unit(machine: Machine, number: int, first: int) -> None:
    if number not in numbers(machine).values():
        assert verdict(machine, number, first=first) == ALLOW


@EVERY
@given(number=st.integers(0, 0xFFFFFFFF), audit=st.integers(0, 0xFFFFFFFF))
def test_another_instruction_set_ends_the_process(machine: Machine, number: int, audit: int) -> None:
    if audit != machine.audit:
        assert verdict(machine, number, audit=audit) == KILL


@given(number=st.integers(0x40000000, 0xFFFFFFFF))
def test_x32_ends_the_process(number: int) -> None:
    assert verdict(MACHINES["x86_64"], number) == KILL


@EVERY
def test_numbers_are_those_that_libseccomp_knows(machine: Machine) -> None:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("libseccomp is absent")
    resolve = library.seccomp_syscall_resolve_name_arch

    for name, number in (*numbers(machine).items(), ("seccomp", machine.seccomp)):
        assert resolve(ctypes.c_uint32(machine.audit), name.encode()) == number, name


def test_a_machine_without_a_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")

    with pytest.raises(EngineLoadError) as caught:
        engine_filter.put_on()

    assert "riscv64" in caught.value.why
