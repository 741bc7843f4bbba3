"""What the commands do, as Python functions: plan, reproduce, evaluate, compare judges, report."""
