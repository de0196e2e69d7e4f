"""An experiment file of two methods on the digits, which tests change and run."""

MINE = """\
title = "Mine"
paper = "none"
caption = "Two methods on the digits."
metric = "pooled"
tables = ["grid", "measures", "differences", "communication"]
figures = ["front"]
target = 60.0
methods = ["fedavg", "local"]

[presets.smoke]
visits = 20
seeds = 2
evaluate_every = 10

[[columns]]
name = "digits-10"
label = "Digits, 10 clients"
dataset = "digits"
clients = 10

[[columns]]
name = "digits-5"
label = "Digits, 5 clients"
dataset = "digits"
clients = 5
not_applicable = { local = "only to see a gap" }

[settings]
"fedavg.local.lr" = 0.01

[sources.memory]
text = "remembered, unverified"
certainty = "remembered"

[published.digits-10]
fedavg = { mean = 50.0, std = 1.0, source = "memory" }
local = { absent = "not recalled" }
"""
