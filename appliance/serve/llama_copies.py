"""Copies what one sequence of llama.cpp's holds to another one, where each has a context of its own.

llama.cpp copies all memory of a place, whatever is held in it, when the next step begins. A short beginning, such as
the instructions that an application puts before each question, is copied by way of a buffer: at once, and in a part of
the time.
"""

import ctypes
from typing import Any, Final

import llama_cpp

_LITTLE: Final = 2
"""Bytes go into the buffer and out of it."""
_MOST_BUFFER_BYTES: Final = 64 * 1024 * 1024


class Copies:
    """Of one context.

    Args:
        context: llama.cpp's.
        cells: How many tokens each place has memory for.
    """

    def __init__(self, context: Any, *, cells: int) -> None:
        self._context = context
        self._cells = cells
        self._memory = llama_cpp.llama_get_memory(context)
        self._to_come: set[tuple[int, int]] = set()
        self._buffer = (ctypes.c_uint8 * 0)()

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Make an empty sequence hold the first tokens of another one."""
        if not self._carry(source, target):
            llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)
            self._to_come.add((source, target))
        llama_cpp.llama_memory_seq_rm(self._memory, target, tokens, -1)

    def done(self) -> None:
        """Note that a step begins, and with it what was to come."""
        self._to_come.clear()

    def is_to_come(self, sequence: int) -> bool:
        """Tell whether what a sequence holds is not there yet."""
        return any(sequence == target for _, target in self._to_come)

    def touch(self, sequence: int) -> bool:
        """Tell whether a copy from or to a sequence is still to come."""
        return any(sequence in pair for pair in self._to_come)

    def _carry(self, source: int, target: int) -> bool:
        held = int(llama_cpp.llama_memory_seq_pos_max(self._memory, source)) + 1
        if _LITTLE * held > self._cells or self.touch(source) or self.touch(target):
            return False
        size = llama_cpp.llama_state_seq_get_size(self._context, source)
        if not 0 < size <= _MOST_BUFFER_BYTES:
            return False
        if len(self._buffer) < size:
            self._buffer = (ctypes.c_uint8 * size)()
        if llama_cpp.llama_state_seq_get_data(self._context, self._buffer, size, source) != size:
            return False
        if llama_cpp.llama_state_seq_set_data(self._context, self._buffer, size, target):
            return True
        llama_cpp.llama_memory_seq_rm(self._memory, target, -1, -1)
        return False
