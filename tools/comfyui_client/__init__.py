"""A running ComfyUI from outside: its API, its page, graphs in API format. For tools and tests."""
