"""Drives a real ComfyUI: its API, comfy-cli and its front end in Chromium."""
