"""The bundled checkpoint: small networks, trained on Toyland, that run on a CPU."""
