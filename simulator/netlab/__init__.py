"""A topology's hosts as network namespaces of this machine, joined by links that are as slow as the file says."""
