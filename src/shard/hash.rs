//! Hash functions: xxh3 buckets and PostgreSQL's own partition hashes (hash_combine64, seed 0x7A5B22367996DCFD).
