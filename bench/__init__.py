"""Benchmarks: ours beside what people would use instead, interleaved on one machine. Not part of the product."""
