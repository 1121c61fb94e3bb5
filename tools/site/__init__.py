"""The site of documentation: what MkDocs is told while it builds, and the reference that is made from the code."""
