"""What the verbs of the `vqtok` command do, a module a verb."""
