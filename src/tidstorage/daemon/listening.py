"""The daemon's socket, and who has the port where it cannot be had."""
