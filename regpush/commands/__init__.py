"""The work of the commands other than push and plan, such as copy, rebase, inspect and verify."""
