"""What is said to Redis, and what its answers mean: keys, scripts, payloads, serializers, names of functions.

Nothing here does I/O: each module turns values into bytes, keys and arguments, or back.
"""
