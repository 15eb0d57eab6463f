"""What is done with rows afterwards: merge, sort, tag, report, evaluate."""
