"""The registry: which model of a symbol may speak, and the ledger of how it came to that."""
