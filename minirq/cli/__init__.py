"""The command line: each command parses, makes one call and prints. The top floor; nothing imports it."""
