"""The .nrv file format: chunks, headers, entropy coding, tensors (no torch, no media library)."""
