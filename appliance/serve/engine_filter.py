"""The filter an engine puts on itself once its model is loaded: no other program, no other process, no new contact.

A hostile model file or prompt that takes over the engine finds a process that holds weights and listens on one socket.
The unit's own filter must leave execve in, since systemd starts the engine by it; after loading nothing needs it.

Rules:
    FILTER-1 It covers every thread the process has (TSYNC) and cannot be taken off again (no_new_privs, seccomp(2)).
    FILTER-2 A start of another program ends the process: no fault of ours ever starts one after loading.
    FILTER-3 Refused with EPERM are: another process (llama.cpp's own crash handler forks a debugger, and ends by itself
             without), another process's memory, another view of files or machine, large doors of the kernel that
             answering has no use for, and new contacts: accepting on the one socket needs none of these calls.
    FILTER-4 Threads are made by clone, whose flags are looked at; clone3, whose flags no filter can read, is said to be
             absent, and glibc goes back to clone.
    FILTER-5 Another instruction set than this process's (32 bits, x32) ends the process: its numbers mean other calls.
    FILTER-6 Where the filter cannot be put on, the engine does not serve.
    FILTER-7 What has taken the process over does not go on by the memory of one that has no filter: its master, or
             another engine of the same user. None of them can be looked into, whatever the kernel's Yama says.

Source: seccomp(2), the kernel's seccomp_filter.rst and tables of calls; the numbers are compared with libseccomp's.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from appliance.errors import EngineLoadError

# linux/bpf_common.h, linux/filter.h: classic BPF over struct seccomp_data.
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_IF_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_IF_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_IF_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_FIRST_ARGUMENT: Final = 16  # its low half: both machines are little-endian

# linux/seccomp.h
ALLOW: Final = 0x7FFF0000
KILL: Final = 0x80000000
_ERRNO: Final = 0x00050000
REFUSE: Final = _ERRNO | 1  # EPERM
_ABSENT: Final = _ERRNO | 38  # ENOSYS
_SET_MODE_FILTER: Final = 1
_TSYNC: Final = 1
_SET_DUMPABLE: Final = 4
_SET_NO_NEW_PRIVS: Final = 38
_CLONE_THREAD: Final = 0x00010000
_X32: Final = 0x40000000

VERDICTS: Final = {"kill": KILL, "refuse": REFUSE, "absent": _ABSENT}

Instruction = tuple[int, int, int, int]

# What becomes of a call, its name, its number on x86_64 and on aarch64; - where a machine has no such call.
_CALLS: Final = """
kill execve 59 221
kill execveat 322 281
thread clone 56 220
absent clone3 435 435
refuse fork 57 -
refuse vfork 58 -
refuse ptrace 101 117
refuse process_vm_readv 310 270
refuse process_vm_writev 311 271
refuse process_madvise 440 440
refuse pidfd_getfd 438 438
refuse kcmp 312 272
refuse mount 165 40
refuse umount2 166 39
refuse pivot_root 155 41
refuse chroot 161 51
refuse unshare 272 97
refuse setns 308 268
refuse open_tree 428 428
refuse move_mount 429 429
refuse fsopen 430 430
refuse fsconfig 431 431
refuse fsmount 432 432
refuse fspick 433 433
refuse mount_setattr 442 442
refuse name_to_handle_at 303 264
refuse open_by_handle_at 304 265
refuse personality 135 92
refuse bpf 321 280
refuse io_uring_setup 425 425
refuse io_uring_enter 426 426
refuse io_uring_register 427 427
refuse perf_event_open 298 241
refuse userfaultfd 323 282
refuse keyctl 250 219
refuse add_key 248 217
refuse request_key 249 218
refuse init_module 175 105
refuse finit_module 313 273
refuse delete_module 176 106
refuse kexec_load 246 104
refuse kexec_file_load 320 294
refuse memfd_create 319 279
refuse socket 41 198
refuse connect 42 203
refuse bind 49 200
refuse listen 50 201
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How one instruction set names its calls: the kernel's AUDIT_ARCH_*, seccomp(2)'s number, its column above."""

    audit: int
    seccomp: int
    column: int
    has_x32: bool = False

    def calls(self) -> Iterator[tuple[str, str, int]]:
        """Yield what becomes of each call that this machine has, its name and its number."""
        for line in _CALLS.split("\n"):
            fields = line.split()
            if fields and fields[self.column] != "-":
                yield fields[0], fields[1], int(fields[self.column])


MACHINES: Final[Mapping[str, Machine]] = MappingProxyType(
    {
        "x86_64": Machine(audit=0xC000003E, seccomp=317, column=2, has_x32=True),
        "aarch64": Machine(audit=0xC00000B7, seccomp=277, column=3),
    }
)


def program(machine: Machine, *, but: Collection[str] = ()) -> list[Instruction]:
    """Return the filter as classic BPF: (code, jump if true, jump if false, constant) of each instruction.

    Args:
        machine: Whose calls.
        but: Names of calls that are left in.
    """
    made: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 1, 0, machine.audit),
        (_RETURN, 0, 0, KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine.has_x32:
        made += [(_IF_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, KILL)]
    for verdict, name, number in machine.calls():
        if name in but:
            continue
        if verdict != "thread":
            made += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, VERDICTS[verdict])]
            continue
        made += [
            (_IF_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_IF_ANY_BIT, 0, 1, _CLONE_THREAD),
            (_RETURN, 0, 0, ALLOW),
            (_RETURN, 0, 0, REFUSE),
        ]
    return [*made, (_RETURN, 0, 0, ALLOW)]


def put_on(*, but: Collection[str] = ()) -> None:
    """Filter every thread of this process, now and for good; see the module's rules.

    Args:
        but: Names of calls that are left in, where answering needs them.

    Raises:
        EngineLoadError: This machine or its kernel has no such filter, or the unit's own filter forbids to set one.
    """
    machine = MACHINES.get(platform.machine())
    if machine is None or struct.calcsize("P") != 8:
        raise _cannot(f"no table of calls for {platform.machine()}")
    instructions = program(machine, but=but)
    code = b"".join(struct.pack("=HBBI", *one) for one in instructions)
    held = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("@HP", len(instructions), ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_NO_NEW_PRIVS, *_words(1, 0, 0, 0)) != 0:
        raise _cannot(os.strerror(ctypes.get_errno()))
    libc.syscall.restype = ctypes.c_long
    told = libc.syscall(*_words(machine.seccomp, _SET_MODE_FILTER, _TSYNC), ctypes.c_char_p(described))
    if told > 0:
        raise _cannot("a thread has another filter")
    if told != 0:
        raise _cannot(os.strerror(ctypes.get_errno()))


def hide() -> None:
    """Take this process's memory, and that of all it forks, away from other processes of its user (FILTER-7).

    Raises:
        EngineLoadError: The kernel does not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_DUMPABLE, *_words(0, 0, 0, 0)) != 0:
        raise _cannot(os.strerror(ctypes.get_errno()))


def _words(*numbers: int) -> Sequence[ctypes.c_ulong]:
    return [ctypes.c_ulong(number) for number in numbers]


def _cannot(why: str) -> EngineLoadError:
    return EngineLoadError(
        what="the engine cannot put on its own filter",
        why=why,
        fix="the kernel needs seccomp filters, and the unit needs SystemCallFilter=seccomp",
    )
