"""What is kept of remote objects: in memory and on the disk of this machine."""
