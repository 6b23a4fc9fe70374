"""The command lines: each module parses options, calls a verb, and prints."""
