"""What the nodes need of ComfyUI's internals: memory, model folders, precision, MODEL and VAE, inverted latents."""
