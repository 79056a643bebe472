"""From a name to verified files on this machine: the catalog, its sources, and the store."""
