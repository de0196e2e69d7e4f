"""Tables and figures of a paper as data: one TOML file each, and their schema."""
