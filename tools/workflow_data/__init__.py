"""What the example workflows are made of as data, for their builders and for tests."""
