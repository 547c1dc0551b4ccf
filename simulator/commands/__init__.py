"""The verbs of the command line, one file each. A module is imported only when its verb is called."""
