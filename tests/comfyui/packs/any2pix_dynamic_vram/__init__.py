"""Switches dynamic VRAM on, as far as a host without a card can have it, where ANY2PIX_DYNAMIC_VRAM names
harness/dynamic_vram.py."""

import importlib.util
import os

NODE_CLASS_MAPPINGS = {}

if os.environ.get("ANY2PIX_DYNAMIC_VRAM"):
    spec = importlib.util.spec_from_file_location("any2pix_dynamic_vram", os.environ["ANY2PIX_DYNAMIC_VRAM"])
    harness = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(harness)
    harness.dynamic_vram().__enter__()
