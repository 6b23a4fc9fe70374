"""The description of a cluster, cluster.toml: read, checked, and filled in."""
