"""What crpbot costs beside what people would use instead: `make bench`, or `python -m benchmarks --only features --quick`."""
