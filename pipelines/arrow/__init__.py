"""Arrow record batches as they travel through a job: bytes, columns, hashes, shuffles."""
