"""Quantize one GGUF file. Stand-alone: run by file name where llama-cpp-python is and nothing of ours.

Arguments: parent, child, llama.cpp's file type, 1 to allow a quantized parent else 0, threads. Prints one JSON line.
"""

import ctypes
import json
import sys

import llama_cpp

_WARNING = 3


def _show(level: int, text: bytes, _: object) -> None:
    if level >= _WARNING:
        sys.stderr.buffer.write(text)


def main(arguments: list[str]) -> int:
    """Quantize, and return 0 where llama.cpp says it did."""
    parent, child, file_type, allow, threads = arguments
    llama_cpp.llama_backend_init()
    log = llama_cpp.llama_log_callback(_show)
    llama_cpp.llama_log_set(log, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = int(file_type)
    params.allow_requantize = allow == "1"
    params.nthread = int(threads)
    code = llama_cpp.llama_model_quantize(parent.encode(), child.encode(), ctypes.byref(params))
    sys.stdout.write(json.dumps({"code": int(code), "version": llama_cpp.__version__}) + "\n")
    return 0 if code == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
