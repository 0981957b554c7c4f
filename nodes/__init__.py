"""The only room that knows ComfyUI: sockets <-> tensors, model folders, memory, attention patches."""
