"""Run Nix's programs: evaluate and build installables, ask binary caches, download store paths."""
