"""One module or folder for each backend. An adapter knows its library, the ports and the model, never another adapter."""
