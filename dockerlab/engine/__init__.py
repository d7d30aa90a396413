"""The embedded engine: speaks the Docker Engine API on a unix socket and runs OCI images without Docker or root."""
