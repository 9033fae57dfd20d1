"""Volumes as images of file systems: laid out once, made by the tools that everybody has, read back by them.

`stage` lays a volume out without copying what can be linked; one module for each file system makes the image and hands
every byte of it back; `kinds` lists them; `make` joins the steps.
"""
