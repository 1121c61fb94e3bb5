"""What is kept in files that an operator writes."""
