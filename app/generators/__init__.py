"""What makes rows: the protocol, the registry, the shared machinery, and one module for each generator."""
