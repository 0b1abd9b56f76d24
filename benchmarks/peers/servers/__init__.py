"""Server code of the peers: scripts for environments of their own; all they import of this project is `mlp`."""
