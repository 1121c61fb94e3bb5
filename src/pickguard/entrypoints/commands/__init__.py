"""The commands of the command line, a module for each. To read one costs little: what it works with is imported as it runs."""
