"""cluster.toml: its model, what is wrong with one, and where."""
