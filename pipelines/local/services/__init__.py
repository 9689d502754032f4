"""The services that  runs, one file each."""
