"""The benchmarks, one folder each: questions, requests, parsing, scores."""
